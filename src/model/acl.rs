//! What to tell whoever may not do something: the rule that would let them, in the words of `ACL SETUSER`.

use crate::model::endpoint::Endpoint;

/// Everything that a user of this library needs, as the rules of
/// [ACL SETUSER](https://redis.io/docs/latest/commands/acl-setuser/); `{prefix}*` is the keys' pattern.
const SCRIPT_COMMANDS: &str = "+get +getex +pttl +del +set +pexpire";

/// What a sentinel is asked; see sentinel.rs.
const SENTINEL_COMMANDS: &str = "+sentinel|get-master-addr-by-name +sentinel|master";

/// The sentence about a refusal: who was refused, by the redis that is meant or by this sentinel on the way to it, and
/// what is to be done.
#[must_use]
pub fn denied_sentence(endpoint: &Endpoint, text: &str, sentinel: Option<&Endpoint>) -> String {
    let (user, place) = match sentinel {
        Some(sentinel) => (sentinel.user(), format!("the sentinel {sentinel} of {endpoint}")),
        None => (endpoint.user(), endpoint.to_string()),
    };
    let remedy = remedy_for(text, user, sentinel.is_some());
    format!("Auth error: {text} (user '{user}' at {place}){remedy}")
}

/// The end of that sentence; empty where there is nothing to add.
fn remedy_for(text: &str, user: &str, at_sentinel: bool) -> String {
    match missing_rule(text) {
        Some(rule) => format!(". To allow it: ACL SETUSER {user} {rule}"),
        // Whoever gave the right credentials of the servers may not know that the sentinels have their own.
        None if at_sentinel => {
            ". Pass sentinelUsername and sentinelPassword as the sentinels know them".to_owned()
        }
        None => String::new(),
    }
}

fn missing_rule(text: &str) -> Option<String> {
    // A command inside a script: which one, not every version says.
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
