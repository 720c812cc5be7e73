//! Keys and certificates of one lab, made by `openssl`: short-lived, and gone with the lab.
//!
//! Who is named what decides what the API server lets it do; the names are Kubernetes' own.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::tool;

/// Validity; a lab that lives longer than that has other problems.
const DAYS: &str = "365";

/// A directory of keys and certificates: `NAME.crt` and `NAME.key`.
#[derive(Debug, Clone)]
pub(crate) struct Pki(PathBuf);

/// Who a certificate is for.
pub(super) struct Subject<'a> {
    /// The user's name.
    pub(super) name: &'a str,
    /// The user's group.
    pub(super) group: Option<&'a str>,
    /// Names and addresses a server is reached by; a client has none.
    pub(super) names: &'a [String],
}

impl<'a> Subject<'a> {
    /// A client called `name`.
    pub(super) fn client(name: &'a str, group: Option<&'a str>) -> Self {
        Self {
            name,
            group,
            names: &[],
        }
    }
}

impl Pki {
    /// Makes the authorities, the API server's certificates and those of its clients but the nodes.
    /// `server` is where the API server is reached.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub(crate) fn create(directory: &Path, server: &[IpAddr]) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let pki = Self::at(directory);
        for authority in ["ca", "front-proxy-ca"] {
            pki.authority(authority)?;
        }
        let mut names: Vec<String> = server
            .iter()
            .map(|address| format!("IP:{address}"))
            .collect();
        let own = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
        names.extend(own.map(|suffix| format!("DNS:kubernetes{suffix}")));
        let subject = Subject {
            name: "kube-apiserver",
            group: None,
            names: &names,
        };
        pki.issue("apiserver", &subject)?;
        let masters = Some("system:masters");
        for (file, name, group) in [
            (
                "apiserver-kubelet-client",
                "kube-apiserver-kubelet-client",
                masters,
            ),
            ("admin", "admin", masters),
            (
                "kube-controller-manager",
                "system:kube-controller-manager",
                None,
            ),
            ("kube-scheduler", "system:kube-scheduler", None),
            ("kube-proxy", "system:kube-proxy", None),
        ] {
            pki.issue(file, &Subject::client(name, group))?;
        }
        pki.sign(
            "front-proxy-client",
            &Subject::client("front-proxy-client", None),
            "front-proxy-ca",
        )?;
        pki.service_accounts()?;
        Ok(pki)
    }

    /// Those that [`Self::create`] made in `directory`.
    pub(crate) fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The certificate called `name`.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.crt"))
    }

    /// Its key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// Makes a key and a certificate that the cluster's authority signs.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub(super) fn issue(&self, file: &str, subject: &Subject<'_>) -> Result<()> {
        self.sign(file, subject, "ca")
    }

    fn sign(&self, file: &str, subject: &Subject<'_>, authority: &str) -> Result<()> {
        let mut request = self.request(file, subject);
        request.arg("-CA").arg(self.certificate(authority));
        request.arg("-CAkey").arg(self.key(authority));
        request.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let usage = match subject.names {
            [] => "clientAuth",
            // A kubelet and an API server are clients of each other too.
            _ => "serverAuth,clientAuth",
        };
        request
            .arg("-addext")
            .arg(format!("extendedKeyUsage={usage}"));
        if !subject.names.is_empty() {
            let names = subject.names.join(",");
            request
                .arg("-addext")
                .arg(format!("subjectAltName={names}"));
        }
        tool::output("openssl req", request).map(drop)
    }

    fn authority(&self, name: &str) -> Result<()> {
        let mut request = self.request(name, &Subject::client(name, None));
        request.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        tool::output("openssl req", request).map(drop)
    }

    fn request(&self, file: &str, subject: &Subject<'_>) -> Command {
        let group = subject
            .group
            .map(|group| format!("/O={group}"))
            .unwrap_or_default();
        let mut openssl = Command::new("openssl");
        // Without a file of configuration, so that the machine's own has no say.
        openssl.args([
            "req",
            "-x509",
            "-config",
            "/dev/null",
            "-nodes",
            "-days",
            DAYS,
        ]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl
            .arg("-subj")
            .arg(format!("{group}/CN={}", subject.name));
        openssl
            .arg("-keyout")
            .arg(self.key(file))
            .arg("-out")
            .arg(self.certificate(file));
        openssl
    }

    /// The pair that signs tokens of service accounts: `sa.key`, `sa.pub`.
    fn service_accounts(&self) -> Result<()> {
        let mut key = Command::new("openssl");
        key.args(["genrsa", "-out"]).arg(self.key("sa")).arg("2048");
        tool::output("openssl genrsa", key)?;
        let mut public = Command::new("openssl");
        public.args(["rsa", "-pubout", "-in"]).arg(self.key("sa"));
        public.arg("-out").arg(self.service_account_public());
        tool::output("openssl rsa", public).map(drop)
    }

    pub(super) fn service_account_public(&self) -> PathBuf {
        self.0.join("sa.pub")
    }
}
