//! Passwords and keys: compared and sent, never printed.

use std::fmt;

/// A password or a private key.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret; the empty string means none.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret, if there is one. Only the handshake may call this.
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
