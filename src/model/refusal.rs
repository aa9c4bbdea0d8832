//! Classifies the error replies of redis (READONLY, OOM, NOPERM, …): what may be tried next. Other code goes by the class.

use redis::ServerError;

/// What a refusal or a broken connection means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Do not retry: it would fail again.
    Final,
    /// The credentials are wrong, or have no permission.
    Denied,
    /// Retry later on this connection: the server is not ready yet.
    Later,
    /// Retry on another connection: the server was demoted, or is full.
    Reconnect,
    /// No memory for a new key. What is held can still be extended and released.
    OutOfMemory,
    /// Nobody knows whether the command ran: its reply is lost or late.
    Unknown,
}

/// An error reply's code and text as redis sent them, without the leading `-`.
#[must_use]
pub fn words_of(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

/// True if the key is no string. To a lock that means that the key is held.
#[must_use]
pub fn is_wrong_type(error: &ServerError) -> bool {
    code_of(&words_of(error)) == "WRONGTYPE"
}

/// Classifies an error reply by its words.
#[must_use]
pub fn class_of(text: &str) -> Class {
    match code_of(text) {
        // MOVED and ASK: the key's slot is being moved to another node.
        "LOADING" | "BUSY" | "MASTERDOWN" | "NOREPLICAS" | "MISCONF" | "TRYAGAIN" | "CLUSTERDOWN"
        | "MOVED" | "ASK" => Class::Later,
        "READONLY" => Class::Reconnect,
        "OOM" => Class::OutOfMemory,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Class::Denied,
        _ if text.contains("max number of clients reached") => Class::Reconnect,
        // The crate rewords the refusal of a command in a handshake.
        _ if text.contains("no permissions to run the '") => Class::Denied,
        _ => Class::Final,
    }
}

/// The code of an error reply. An error inside a script is wrapped in another text: redis 6.2 begins it with `ERR Error
/// running script …` or `@user_script: …`. Later versions give no code for a command that the script may not run or a
/// key that it may not touch.
#[must_use]
pub fn code_of(text: &str) -> &str {
    const INSIDE_SCRIPTS: [&str; 10] = [
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "NOREPLICAS",
        "MISCONF",
        "READONLY",
        "OOM",
        "NOPERM",
        "NOAUTH",
        "WRONGTYPE",
    ];
    let code = text.split(' ').next().unwrap_or_default();
    let is_of_a_script = code.starts_with("@user_script") || (code == "ERR" && text.contains("script"));
    if !is_of_a_script {
        return code;
    }
    if ["The user executing the script can't", "ACL failure in script"]
        .iter()
        .any(|words| text.contains(words))
    {
        return "NOPERM";
    }
    text.split([' ', '-', ':']).find(|word| INSIDE_SCRIPTS.contains(word)).unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_classified_by_their_code() {
        for (text, class) in [
            ("LOADING Redis is loading the dataset in memory", Class::Later),
            ("BUSY Redis is busy running a script.", Class::Later),
            ("MISCONF Redis is configured to save RDB snapshots", Class::Later),
            ("NOREPLICAS Not enough good replicas to write.", Class::Later),
            ("READONLY You can't write against a read only replica.", Class::Reconnect),
            ("ERR max number of clients reached", Class::Reconnect),
            ("OOM command not allowed when used memory > 'maxmemory'.", Class::OutOfMemory),
            ("NOPERM this user has no permissions to run the 'set' command", Class::Denied),
            ("WRONGPASS invalid username-password pair or user is disabled.", Class::Denied),
            (
                "ERR The user executing the script can't run this command or subcommand script: 5b, on @user_script:4.",
                Class::Denied,
            ),
            (
                "ERR ACL failure in script: User default has no permissions to run the 'get' command",
                Class::Denied,
            ),
            ("ERR syntax error", Class::Final),
        ] {
            assert_eq!(class_of(text), class, "{text}");
        }
    }

    #[test]
    fn a_code_inside_the_text_of_a_script_error_counts() {
        let wrapped = "ERR Error running script (call to f_6b1bf486c81ceb7edf3c093f4c48582e38c0e791): \
                       @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.";
        assert_eq!(class_of(wrapped), Class::Reconnect);
        for (text, class) in [
            ("@user_script: 6: -MISCONF Redis is configured to save RDB snapshots", Class::Later),
            (
                "@user_script: 6: The user executing the script can't run this command or subcommand",
                Class::Denied,
            ),
            ("ERR unknown command 'script', with args beginning with: 'LOAD'", Class::Final),
        ] {
            assert_eq!(class_of(text), class, "{text}");
        }
        assert_eq!(
            class_of("ERR Error running script (call to f_0): @user_script:1: 'x' is nil"),
            Class::Final
        );
    }
}
