//! Where the cloud is: region, endpoints and timeout, from the environment variables its users know.
//!
//! Pure: the environment is a function passed in.

use core::{fmt, str::FromStr, time::Duration};

use http::Uri;
use model::RegionId;

use crate::rpc::Product;

/// Longest one call may take, whatever its deadline. Every call here is answered at once or only
/// starts something, so an answer this late is a lost one; the Go agent waits as long.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear: for networks that are trusted, such as the metadata service's.
    Http,
    /// With TLS.
    Https,
}

impl FromStr for Scheme {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Scheme::Http),
            "https" => Ok(Scheme::Https),
            _ => Err(ConfigError::Scheme(text.into())),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither http nor https.
    #[error("scheme {0:?} is not supported: use http or https")]
    Scheme(String),
    /// Not a host, with a port or without.
    #[error("endpoint {0:?} is not of the form host, host:port or scheme://host:port")]
    Endpoint(String),
    /// A variable is set to something that cannot be used.
    #[error("environment variable {variable} cannot be used")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with its value.
        source: Box<ConfigError>,
    },
}

/// A server: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// Reads `host`, `host:port` or `scheme://host:port`; `scheme` is for texts that name none.
    ///
    /// # Errors
    /// When the text is no server, or says more than which server.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Endpoint(text.chars().take(128).collect());
        let (scheme, rest) = match text.split_once("://") {
            Some((named, rest)) => (named.parse()?, rest),
            None => (scheme, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(bad());
        }
        let uri: Uri = format!("{scheme}://{authority}/")
            .parse()
            .map_err(|_| bad())?;
        match uri.host() {
            Some(host) if !host.is_empty() => Ok(Self(uri)),
            _ => Err(bad()),
        }
    }

    /// The endpoint's root, `scheme://host:port/`.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is spoken to with TLS.
    pub fn scheme(&self) -> Scheme {
        match self.0.scheme_str() {
            Some("http") => Scheme::Http,
            _ => Scheme::Https,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where calls go and how long they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The region every call names.
    pub region: RegionId,
    /// Serves [`Product::Ecs`].
    pub ecs: Endpoint,
    /// Serves [`Product::Vpc`].
    pub vpc: Endpoint,
    /// Longest one call may take; [`CALL_TIMEOUT`] unless a test says otherwise.
    pub timeout: Duration,
}

impl Config {
    /// The configuration for `region`, with what the environment overrides: `ECS_ENDPOINT` and
    /// `VPC_ENDPOINT` (host, host:port or scheme://host:port), `ALICLOUD_ENDPOINT_TYPE` (`public`;
    /// anything else is the VPC-internal network) and `ALICLOUD_CLIENT_SCHEME` (http or https). A
    /// variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// When a variable holds something that cannot be used; it names the variable.
    pub fn from_env(
        env: impl Fn(&str) -> Option<String>,
        region: RegionId,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| env(name).filter(|value| !value.is_empty());
        let scheme = match variable("ALICLOUD_CLIENT_SCHEME") {
            None => Scheme::Https,
            Some(text) => text.parse().map_err(|source| ConfigError::Variable {
                variable: "ALICLOUD_CLIENT_SCHEME",
                source: Box::new(source),
            })?,
        };
        let public = variable("ALICLOUD_ENDPOINT_TYPE").as_deref() == Some("public");
        let endpoint = |name: &'static str, product: Product| match variable(name) {
            None => Endpoint::parse(&regional_host(product, &region, public), scheme),
            Some(text) => Endpoint::parse(&text, scheme).map_err(|source| ConfigError::Variable {
                variable: name,
                source: Box::new(source),
            }),
        };
        Ok(Self {
            ecs: endpoint("ECS_ENDPOINT", Product::Ecs)?,
            vpc: endpoint("VPC_ENDPOINT", Product::Vpc)?,
            timeout: CALL_TIMEOUT,
            region,
        })
    }

    /// The endpoint that serves `product`.
    pub fn endpoint(&self, product: Product) -> &Endpoint {
        match product {
            Product::Ecs => &self.ecs,
            Product::Vpc => &self.vpc,
        }
    }
}

/// The official SDKs' regional rule: `ecs.<region>.aliyuncs.com`, and `ecs-vpc.<region>.aliyuncs.com`
/// inside a VPC, where no public network is needed.
fn regional_host(product: Product, region: &RegionId, public: bool) -> String {
    let network = if public { "" } else { "-vpc" };
    format!("{}{network}.{region}.aliyuncs.com", product.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        };
        Config::from_env(env, RegionId::new("cn-hangzhou").unwrap())
    }

    #[test]
    fn a_node_in_a_vpc_needs_no_variable() {
        let config = config(&[]).unwrap();
        assert_eq!(
            config.ecs.to_string(),
            "https://ecs-vpc.cn-hangzhou.aliyuncs.com/"
        );
        assert_eq!(
            config.vpc.to_string(),
            "https://vpc-vpc.cn-hangzhou.aliyuncs.com/"
        );
        assert_eq!(config.timeout, Duration::from_secs(20));
    }

    #[test]
    fn variables_override() {
        let config = config(&[
            ("ECS_ENDPOINT", "127.0.0.1:8080"),
            ("ALICLOUD_ENDPOINT_TYPE", "public"),
            ("ALICLOUD_CLIENT_SCHEME", "HTTP"),
        ])
        .unwrap();
        assert_eq!(config.ecs.to_string(), "http://127.0.0.1:8080/");
        assert_eq!(
            config.vpc.to_string(),
            "http://vpc.cn-hangzhou.aliyuncs.com/"
        );
    }

    #[test]
    fn an_endpoint_may_name_its_scheme_and_an_empty_variable_is_none() {
        let config = config(&[("ECS_ENDPOINT", "http://[::1]:80/"), ("VPC_ENDPOINT", "")]).unwrap();
        assert_eq!(config.ecs.scheme(), Scheme::Http);
        assert_eq!(config.vpc.scheme(), Scheme::Https);
    }

    #[test]
    fn what_cannot_be_used_names_the_variable() {
        for (variable, value) in [
            ("ALICLOUD_CLIENT_SCHEME", "ftp"),
            ("ECS_ENDPOINT", "ecs.example/path"),
            ("ECS_ENDPOINT", "user@ecs.example"),
            ("VPC_ENDPOINT", "two words"),
            ("VPC_ENDPOINT", ":80"),
            ("VPC_ENDPOINT", "gopher://host"),
        ] {
            let error = config(&[(variable, value)]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(variable), "{variable}={value}: {text}");
        }
    }
}
