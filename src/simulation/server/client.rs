//! One connection as the server sees it.

use super::data::Time;

/// The server's number for a connection.
pub type ClientId = u64;

/// A WAIT that has no answer yet; what is sent behind it waits with it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub replicas: i64,
    pub offset: u64,
    /// `None` waits for ever.
    pub until: Option<Time>,
}

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "as many independent switches as redis has for a connection"
)]
pub struct Client {
    pub address: String,
    pub since: Time,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    /// How much of the output is on its way: what a call has written before. The rest is lost if the client is killed.
    pub sent: usize,
    pub resp3: bool,
    pub database: u32,
    pub name: String,
    pub library: [String; 2],
    pub is_authenticated: bool,
    /// CLIENT TRACKING ON, and whether with OPTIN.
    pub tracks: bool,
    pub opts_in: bool,
    /// CLIENT CACHING YES, and no other command since.
    pub caching: bool,
    /// ASKING, and no other command since.
    pub asking: bool,
    pub waiting: Option<Waiting>,
    /// How far the master's stream had come after the last command.
    pub offset: u64,
    /// The server hangs up once what is written is read.
    pub closes: bool,
}

impl Client {
    pub fn new(address: String, since: Time) -> Self {
        Self {
            address,
            since,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            resp3: false,
            database: 0,
            name: String::new(),
            library: Default::default(),
            is_authenticated: false,
            tracks: false,
            opts_in: false,
            caching: false,
            asking: false,
            waiting: None,
            offset: 0,
            closes: false,
        }
    }
}
