//! A certificate of the webhooks with its key and the authorities that signed it: made, and judged as the API
//! server would.
//!
//! The authority signs one certificate and its key is thrown away, so each renewal makes another. Pure but
//! for the chance keys are made of. Must not know: where bundles are kept.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::jiff::{Timestamp, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a certificate is valid.
pub(in crate::webhook) const LIFE: Duration = DAY.saturating_mul(365);

/// A certificate that ends within this is replaced: a third of its life, so that two tries in three may fail
/// for months before anything breaks.
pub(in crate::webhook) const RENEW_BEFORE: Duration = DAY.saturating_mul(365 / 3);

/// Certificates begin to be valid a day before they are made: clocks of the control plane's nodes differ.
const BACKDATED: Duration = DAY;

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub(in crate::webhook) enum MakeError {
    /// The names, or what is written of them.
    #[error("making a certificate for {names}: {source}")]
    Certificate { names: String, source: rcgen::Error },
    /// The clock is beyond what a certificate can say.
    #[error("making a certificate: the time {0} s after 1970 has no date")]
    Clock(u64),
}

/// Why a bundle cannot be served.
#[derive(Debug, thiserror::Error)]
pub(in crate::webhook) enum Unusable {
    /// Not in the form of certificates and keys.
    #[error("{what} is not PEM: {source}")]
    Pem {
        what: &'static str,
        source: rustls::pki_types::pem::Error,
    },
    /// There is no authority in it.
    #[error("no authority: {0}")]
    Authority(String),
    /// The key is not the certificate's, or of a kind nobody speaks.
    #[error("certificate and key: {0}")]
    Key(rustls::Error),
    /// The API server would refuse it for this name.
    #[error("for {name}: {source}")]
    Refused { name: String, source: rustls::Error },
}

/// Certificate, key and authorities, each in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::webhook) struct Bundle {
    /// The authority that signed the certificate, and after it the one before: replicas that still serve the
    /// last certificate stay trusted.
    pub(in crate::webhook) authorities: String,
    pub(in crate::webhook) certificate: String,
    pub(in crate::webhook) key: String,
}

/// Without the key.
impl fmt::Debug for Bundle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Bundle");
        shown.field("certificate", &self.certificate);
        shown.finish_non_exhaustive()
    }
}

/// The names by which the API server and people reach a Service.
pub(in crate::webhook) fn names(service: &str, namespace: &str, domain: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}"),
        service.to_owned(),
        format!("{service}.{namespace}.svc.{domain}"),
    ]
}

/// A new bundle; `before` are the authorities of the one it replaces.
pub(in crate::webhook) fn make(
    names: &[String],
    before: &str,
    now: SystemTime,
) -> Result<Bundle, MakeError> {
    let dates = (date(now - BACKDATED)?, date(now + LIFE)?);
    let signed = sign(names, dates);
    let (authority, certificate, key) = signed.map_err(|source| MakeError::Certificate {
        names: names.join(", "),
        source,
    })?;
    Ok(Bundle {
        authorities: authority + &first_block(before),
        certificate,
        key,
    })
}

fn sign(names: &[String], dates: (Date, Date)) -> Result<(String, String, String), rcgen::Error> {
    let mut authority = dated(CertificateParams::default(), dates);
    let common = names.first().map(String::as_str).unwrap_or_default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("authority of {common}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // ECDSA on P-256, which every TLS library speaks.
    let issuer = Issuer::new(authority.clone(), KeyPair::generate()?);
    let own = authority.self_signed(issuer.key())?;

    let mut server = dated(CertificateParams::new(names)?, dates);
    server.distinguished_name = rcgen::DistinguishedName::new();
    server.distinguished_name.push(DnType::CommonName, common);
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok((own.pem(), certificate.pem(), key.serialize_pem()))
}

fn dated(mut params: CertificateParams, (from, to): (Date, Date)) -> CertificateParams {
    let [from, to] = [from, to].map(|date| {
        // Months and days of a date fit.
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    });
    (params.not_before, params.not_after) = (from, to);
    params
}

fn date(at: SystemTime) -> Result<Date, MakeError> {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let time = time.ok_or(MakeError::Clock(seconds))?;
    Ok(time.to_zoned(TimeZone::UTC).date())
}

/// The first certificate of a text in PEM, as text.
fn first_block(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    match pem.split_once(END) {
        Some((block, _)) => format!("{block}{END}\n"),
        None => String::new(),
    }
}

impl Bundle {
    /// What serves it.
    ///
    /// # Errors
    /// When it is not in the form of certificates and keys, or they do not belong together.
    pub(in crate::webhook) fn config(&self) -> Result<ServerConfig, Unusable> {
        let chain = certificates("the certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        let key = key.map_err(|source| Unusable::Pem {
            what: "the key",
            source,
        })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(Unusable::Key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Whether the API server would believe it under each of `names` at this time.
    ///
    /// # Errors
    /// When it would not, or it cannot be served at all.
    pub(in crate::webhook) fn judge(
        &self,
        names: &[String],
        at: SystemTime,
    ) -> Result<(), Unusable> {
        self.config()?;
        let chain = certificates("the certificate", &self.certificate)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates("the authority", &self.authorities)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build();
        let verifier = verifier.map_err(|error| Unusable::Authority(error.to_string()))?;
        let Some((certificate, others)) = chain.split_first() else {
            return Err(Unusable::Authority("there is no certificate either".into()));
        };
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        for name in names {
            let refused = |source| Unusable::Refused {
                name: name.clone(),
                source,
            };
            let server = ServerName::try_from(name.clone())
                .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
            let now = UnixTime::since_unix_epoch(since);
            verifier
                .verify_server_cert(certificate, others, &server, &[], now)
                .map_err(refused)?;
        }
        Ok(())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| Unusable::Pem { what, source })
}
