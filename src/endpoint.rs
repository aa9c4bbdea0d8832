//! Which redis is meant: host, port and credentials. Equal endpoints share one connection.

use std::fmt;

/// A password. It can be compared and sent, but never printed.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password; the empty string means that there is none.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The password, if there is one. For the handshake alone.
    #[must_use]
    pub fn reveal(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "none" } else { "[hidden]" })
    }
}

/// A redis server and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A host name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
    /// The password of redis's `default` user.
    pub password: Secret,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_prints_an_endpoint_prints_its_password() {
        let endpoint =
            Endpoint { host: "example".into(), port: 6379, password: Secret::new("hunter2".into()) };
        assert_eq!(format!("{endpoint}"), "example:6379");
        assert!(!format!("{endpoint:?}").contains("hunter2"));
        assert!(!format!("{endpoint:#?}").contains("hunter2"));
    }
}
