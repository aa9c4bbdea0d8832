//! Makes a server's words safe to show: without our password. A server that is no redis, or a proxy in front of one,
//! may echo the handshake, and so the password: whole, cut off, or escaped.

/// The longest quotation, in characters.
const MAX_QUOTED: usize = 80;

/// How many of a password's first characters are searched for in an unknown server's words. The echo may end in the
/// middle of the password.
const SEARCHED_PREFIX: usize = 8;

/// The length from which the start of a password is hidden in a refusal. Shorter ones occur in redis's own sentences by
/// chance.
const MIN_TRUNCATED: usize = 12;

/// The fewest letters and digits of a password that are searched for with the marks between them ignored.
const MIN_LETTERS: usize = 4;

/// How many bytes before `AUTH` its framing may start, or the rest of HELLO.
const MAX_FRAMING: usize = 12;

const HIDDEN: &str = "[hidden]";

/// The first line that is not empty, cut off and with control characters replaced. `None` if nothing is left to show,
/// or if the line may hold the secret.
#[must_use]
pub fn quoted(bytes: &[u8], secret: Option<&str>) -> Option<String> {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty())?;
    let line = String::from_utf8_lossy(line);
    let begins: Option<String> = secret.map(|secret| secret.chars().take(SEARCHED_PREFIX).collect());
    if begins.is_some_and(|begins| line.to_lowercase().contains(&begins.to_lowercase())) {
        return None;
    }
    let printable = |letter: char| if letter.is_control() || letter == '\u{fffd}' { '.' } else { letter };
    let mut shown: String = line.chars().take(MAX_QUOTED).map(printable).collect();
    // In a handshake the password follows this word, in whatever form.
    if let Some(index) = shown.to_ascii_lowercase().find("auth") {
        shown.truncate(index);
    }
    if !shown.chars().any(char::is_alphanumeric) {
        return None;
    }
    if shown.len() < line.len() {
        shown.push('…');
    }
    Some(shown)
}

/// A refusal without the secret. Redis's own refusals never hold it and stay as they are.
#[must_use]
pub fn without(mut text: String, secret: Option<&str>) -> String {
    let Some(secret) = secret else { return text };
    if let Some(index) = our_auth(&text) {
        text.replace_range(index.., "AUTH [hidden]");
    }
    let mut text = text.replace(secret, HIDDEN);
    if let Some((index, _)) = secret.char_indices().nth(MIN_TRUNCATED)
        && let Some(beginning) = text.find(&secret[..index])
    {
        text.replace_range(beginning.., HIDDEN);
    }
    // The password may be escaped: with marks between its letters.
    let letters = letters_of(secret);
    if letters.len() >= MIN_LETTERS && letters_of(&text).contains(&letters) {
        return HIDDEN.to_owned();
    }
    text
}

/// Where our own AUTH starts: as framed in the protocol, `$4 AUTH`, or after `HELLO 3`. Redis's own sentences contain
/// the word too.
fn our_auth(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    lower.match_indices("auth").map(|(index, _)| index).find(|&index| {
        let before = &lower.as_bytes()[index.saturating_sub(MAX_FRAMING)..index];
        before.contains(&b'3') || before.windows(2).any(|pair| pair == b"$4")
    })
}

fn letters_of(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_quotation_holds_a_part_of_the_password() {
        let secret = "Zq7vXwK2mN9pRt4s".repeat(40);
        for text in [
            format!("you said {secret}"),
            format!("YOU SAID {}", secret.to_uppercase()),
            format!("{}{secret}", "x".repeat(240)),
            format!("?HELLO 3 AUTH default {secret}"),
            format!("?hello 3 auth default {}", secret.replace('Z', "%5A")),
            format!("&*7 $5 HELLO $1 3 $4 Auth $7 default {}", &secret[1..]),
        ] {
            let shown = quoted(&text.as_bytes()[..text.len().min(256)], Some(&secret));
            assert!(!shown.unwrap_or_default().to_lowercase().contains("7vxw"), "{text}");
        }
    }

    #[test]
    fn no_refusal_holds_the_password_in_whatever_form() {
        for (secret, quotations) in [
            (
                "Zq7vXw",
                vec!["what is Zq7vXw", "'Zq7vXw'", "*2 $4 AUTH $6 Zq7vXw *4", "HELLO 3 AUTH default Zq7vXw"],
            ),
            ("pa\"q7\\w", vec!["what is pa\\\"q7\\\\w", "$4\\r\\nauth\\r\\n$8\\r\\npa&quot;q7"]),
            (
                "Zq7vXw q7/w q7",
                vec!["what is Zq7vXw q7/w q", "$4 AUTH Zq7v%20Xw", "HELLO 3 AUTH bob Zq7vXw+q7"],
            ),
        ] {
            for quotation in quotations {
                let shown = without(format!("ERR {quotation}"), Some(secret));
                assert!(!shown.contains("q7") && shown.contains(HIDDEN), "{shown}");
            }
        }
    }

    #[test]
    fn redis_is_quoted_to_the_letter() {
        for text in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
            "NOPERM User me has no permissions to run the 'hello' command",
            "ERR max number of clients reached",
        ] {
            for secret in [None, Some("hunter2"), Some("a long password of many words")] {
                assert_eq!(without(text.to_owned(), secret), text);
            }
        }
    }
}
