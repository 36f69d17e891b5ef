//! Expressions of policies are RE2's; what our library reads differently is written anew.
//!
//! | in a policy | for us | because |
//! |---|---|---|
//! | `\d` `\w` `\s` and their opposites | the classes of ASCII | ours mean all of Unicode |
//! | `\b` `\B` | those of ASCII | an automaton cannot hold the others |
//! | `\Q..\E` | each character escaped | ours does not know it |
//! | `[` `&` `~` inside a class | escaped | ours has classes within classes |
//! | `{` that is no repetition | escaped | ours refuses it, or takes `{,2}` for one |

use std::borrow::Cow;

/// Writes an expression anew.
///
/// # Errors
/// Says what would mean something else in both.
pub(super) fn translate(pattern: &str) -> Result<Cow<'_, str>, &'static str> {
    if !pattern.contains(['\\', '[', '{', '(']) {
        return Ok(Cow::Borrowed(pattern));
    }
    let mut translation = Translation {
        rest: pattern,
        out: String::with_capacity(pattern.len() * 2),
    };
    while let Some(next) = translation.next() {
        match next {
            '\\' => translation.escape(false),
            '[' => translation.class()?,
            '{' if !is_repetition(translation.rest) => translation.out.push_str("\\{"),
            '(' => {
                check_flags(translation.rest)?;
                translation.out.push('(');
            }
            other => translation.out.push(other),
        }
    }
    Ok(Cow::Owned(translation.out))
}

struct Translation<'a> {
    rest: &'a str,
    out: String,
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    /// What stands behind a backslash.
    fn escape(&mut self, in_class: bool) {
        let Some(escaped) = self.next() else {
            self.out.push('\\');
            return;
        };
        let instead = match escaped {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            's' => "[\\t\\n\\x0c\\r\\x20]",
            'S' => "[^\\t\\n\\x0c\\r\\x20]",
            'b' if !in_class => "(?-u:\\b)",
            'B' if !in_class => "(?-u:\\B)",
            'Q' if !in_class => return self.quoted(),
            other => {
                self.out.push('\\');
                self.out.push(other);
                if matches!(other, 'x' | 'p' | 'P') {
                    self.braced();
                }
                return;
            }
        };
        self.out.push_str(instead);
    }

    /// The braces that belong to an escape.
    fn braced(&mut self) {
        if let Some((inside, rest)) = self.rest.split_once('}')
            && inside.starts_with('{')
        {
            self.out.push_str(inside);
            self.out.push('}');
            self.rest = rest;
        }
    }

    fn quoted(&mut self) {
        let (inside, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
        self.out.push_str(&regex::escape(inside));
        self.rest = rest;
    }

    /// A class behind its bracket, up to the one that closes it.
    fn class(&mut self) -> Result<(), &'static str> {
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        // In front it stands for itself.
        if let Some(rest) = self.rest.strip_prefix(']') {
            self.rest = rest;
            self.out.push_str("\\]");
        }
        while let Some(next) = self.next() {
            match next {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => self.escape(true),
                '[' if self.rest.starts_with(':') => self.named_class(),
                '[' | '&' | '~' => {
                    self.out.push('\\');
                    self.out.push(next);
                }
                '-' if self.rest.starts_with('-') => {
                    return Err("`--` in a class: write `\\-` for a hyphen");
                }
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    /// `[:alpha:]`, or a bracket that only looks like that.
    fn named_class(&mut self) {
        let named = self.rest.split_once(":]").filter(|(name, _)| {
            let name = name.trim_start_matches([':', '^']);
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        match named {
            Some((name, rest)) => {
                self.out.push('[');
                self.out.push_str(name);
                self.out.push_str(":]");
                self.rest = rest;
            }
            None => self.out.push_str("\\["),
        }
    }
}

/// Whether `{` is followed by `2}`, `2,}` or `2,3}`.
fn is_repetition(behind: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((inside, _)) = behind.split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    !least.is_empty() && digits(least) && digits(most)
}

/// Refuses flags that RE2 does not have: `x` would turn blanks and `#` into nothing.
fn check_flags(behind: &str) -> Result<(), &'static str> {
    let Some(flags) = behind.strip_prefix('?') else {
        return Ok(());
    };
    let end = flags.find(|c: char| !(c.is_ascii_alphabetic() || c == '-'));
    let (flags, rest) = end
        .and_then(|end| flags.split_at_checked(end))
        .unwrap_or_default();
    if rest.starts_with([')', ':']) && flags.contains(|c| !"imsU-".contains(c)) {
        return Err("only the flags i, m, s and U are known");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(pattern: &str) -> String {
        translate(pattern).unwrap().into_owned()
    }

    #[test]
    fn expressions_that_mean_the_same_stay_as_they_are() {
        for pattern in [
            "orders.*",
            "^a|b$",
            r"a\.b",
            "(?i)abc",
            "(?P<n>a)(?:b)(?i:c)",
            "a{2}b{2,}c{2,3}",
            "[a-z]",
            "[^[:alpha:]_]",
            r"\x{e9}\pL\z",
        ] {
            assert_eq!(translated(pattern), pattern);
        }
    }

    #[test]
    fn what_would_mean_something_else_is_written_anew() {
        for (pattern, expected) in [
            (r"\d+", "[0-9]+"),
            (r"[\w-]", "[[0-9A-Za-z_]-]"),
            (r"[^\W]", "[^[^0-9A-Za-z_]]"),
            (r"\bx\B", r"(?-u:\b)x(?-u:\B)"),
            (r"\Qa.b\E.c", r"a\.b.c"),
            (r"\Qa.b", r"a\.b"),
            (r"\\d", r"\\d"),
            ("a{,2}", r"a\{,2}"),
            ("a{", r"a\{"),
            ("a{x}", r"a\{x}"),
            ("[[]", r"[\[]"),
            ("[[:x]", r"[\[:x]"),
            ("[]a]", r"[\]a]"),
            ("[^]&&~]", r"[^\]\&\&\~]"),
            ("[a{]{", r"[a{]\{"),
        ] {
            assert_eq!(translated(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for pattern in ["[a--b]", "(?x)a b", "(?i-x:a)", "(?u)a"] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
