//! Names the ACL rule that a refused user is missing, in the syntax of `ACL SETUSER`.

use crate::model::endpoint::Endpoint;

/// The commands of the scripts, as rules of [ACL SETUSER](https://redis.io/docs/latest/commands/acl-setuser/).
const SCRIPT_COMMANDS: &str = "+get +getex +pttl +del +set +pexpire";

/// The commands that a sentinel is sent; see sentinel.rs.
const SENTINEL_COMMANDS: &str = "+sentinel|get-master-addr-by-name +sentinel|master";

/// The sentence about a refusal: which user was refused, by the server or by `sentinel` on the way to it, and the
/// remedy.
#[must_use]
pub fn denied_sentence(endpoint: &Endpoint, text: &str, sentinel: Option<&Endpoint>) -> String {
    let (user, place) = match sentinel {
        Some(sentinel) => (sentinel.user(), format!("the sentinel {sentinel} of {endpoint}")),
        None => (endpoint.user(), endpoint.to_string()),
    };
    let remedy = remedy_for(text, user, sentinel.is_some());
    format!("Auth error: {text} (user '{user}' at {place}){remedy}")
}

/// The last part of that sentence; empty if no remedy is known.
fn remedy_for(text: &str, user: &str, at_sentinel: bool) -> String {
    match missing_rule(text) {
        Some(rule) => format!(". To allow it: ACL SETUSER {user} {rule}"),
        // Sentinels have credentials of their own. A caller with the right ones for the servers may not know that.
        None if at_sentinel => {
            ". Pass sentinelUsername and sentinelPassword as the sentinels know them".to_owned()
        }
        None => String::new(),
    }
}

fn missing_rule(text: &str) -> Option<String> {
    // A command inside a script. Not every version of redis says which.
    if ["executing the script can't", "ACL failure in script"].iter().any(|words| text.contains(words)) {
        return Some(SCRIPT_COMMANDS.to_owned());
    }
    if !text.starts_with("NOPERM") && !text.contains("no permissions to run the '") {
        return None;
    }
    if text.contains("key") && !text.contains("the '") {
        return Some("~reservation-* (or the pattern of your key_prefix)".to_owned());
    }
    let command = text.split('\'').nth(1)?;
    match command.split(['|', ' ']).next()? {
        "eval" | "evalsha" => Some(format!("+eval +evalsha {SCRIPT_COMMANDS}")),
        "sentinel" => Some(SENTINEL_COMMANDS.to_owned()),
        _ => Some(format!("+{command}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_is_missing_is_named() {
        for (text, rule) in [
            (
                "NOPERM this user has no permissions to run the 'set' command",
                ". To allow it: ACL SETUSER worker +set",
            ),
            (
                "NOPERM User worker has no permissions to run the 'client|kill' command",
                ". To allow it: ACL SETUSER worker +client|kill",
            ),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
                ". To allow it: ACL SETUSER worker +eval +evalsha +get +getex +pttl +del +set +pexpire",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 5b",
                ". To allow it: ACL SETUSER worker +get +getex +pttl +del +set +pexpire",
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                ". To allow it: ACL SETUSER worker ~reservation-* (or the pattern of your key_prefix)",
            ),
            (
                "NOPERM No permissions to access a key",
                ". To allow it: ACL SETUSER worker ~reservation-* (or the pattern of your key_prefix)",
            ),
            (
                "NOPERM User worker has no permissions to run the 'sentinel|master' command",
                ". To allow it: ACL SETUSER worker +sentinel|get-master-addr-by-name +sentinel|master",
            ),
            (
                "ERR this user has no permissions to run the 'select' command",
                ". To allow it: ACL SETUSER worker +select",
            ),
            ("WRONGPASS invalid username-password pair or user is disabled.", ""),
            ("NOAUTH Authentication required.", ""),
        ] {
            assert_eq!(remedy_for(text, "worker", false), rule, "{text}");
        }
    }
}
