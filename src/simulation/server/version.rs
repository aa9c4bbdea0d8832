//! Which server is simulated, and in what its words and ways differ from those of the others.

/// The servers that the simulation is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Version {
    Redis62,
    Redis70,
    Redis8,
    Valkey9,
}

impl Version {
    /// From the name and the number in the answer to HELLO.
    pub fn of(server: &str, number: &str) -> Option<Self> {
        match (server, number) {
            ("valkey", _) => Some(Self::Valkey9),
            (_, number) if number.starts_with("6.2") => Some(Self::Redis62),
            (_, number) if number.starts_with("7.0") => Some(Self::Redis70),
            (_, number) if number.starts_with("8.") => Some(Self::Redis8),
            _ => None,
        }
    }

    pub fn server(self) -> &'static str {
        if self == Self::Valkey9 { "valkey" } else { "redis" }
    }

    pub fn number(self) -> &'static str {
        match self {
            Self::Redis62 => "6.2.14",
            Self::Redis70 => "7.0.15",
            Self::Redis8 => "8.2.3",
            Self::Valkey9 => "9.1.2",
        }
    }

    /// From redis 7 on subcommands are commands, scripts have errors with codes, and PEXPIRE has conditions.
    pub fn is_old(self) -> bool {
        self == Self::Redis62
    }

    /// CLIENT SETINFO came with redis 7.2.
    pub fn has_client_set_info(self) -> bool {
        self >= Self::Redis8
    }

    pub fn no_script(self) -> &'static str {
        match self {
            Self::Valkey9 => "NOSCRIPT No matching script.",
            _ => "NOSCRIPT No matching script. Please use EVAL.",
        }
    }

    pub fn unknown_command(self, words: &[Vec<u8>]) -> String {
        let (open, close) = if self.is_old() { ("`", "`, ") } else { ("'", "' ") };
        let mut arguments = String::new();
        // Redis stops quoting after 128 bytes.
        for word in &words[1..] {
            if arguments.len() >= 128 {
                break;
            }
            let left = 128 - arguments.len();
            let shown = String::from_utf8_lossy(&word[..word.len().min(left)]).into_owned();
            arguments.extend([open, &shown, close]);
        }
        let name = String::from_utf8_lossy(&words[0][..words[0].len().min(128)]).into_owned();
        let (open, close) = if self.is_old() { ('`', '`') } else { ('\'', '\'') };
        format!("ERR unknown command {open}{name}{close}, with args beginning with: {arguments}")
    }

    pub fn unknown_subcommand(self, command: &str, subcommand: &[u8]) -> String {
        let subcommand = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
        let command = command.to_ascii_uppercase();
        let what = if self.is_old() {
            "Unknown subcommand or wrong number of arguments for"
        } else {
            "unknown subcommand"
        };
        format!("ERR {what} '{subcommand}'. Try {command} HELP.")
    }

    pub fn invalid_expire(self, command: &str) -> String {
        if self.is_old() {
            format!("ERR invalid expire time in {command}")
        } else {
            format!("ERR invalid expire time in '{command}' command")
        }
    }
}
