//! Lines into statements: cut at each `;` that is neither in a quoted text nor in a comment.
//!
//! A statement remembers where it began, so that an error in the middle of a long input names the line of that input.

/// Bytes of one statement. A longer one is refused: it is more likely a file that was not meant.
pub const MAX_STATEMENT_BYTES: usize = 1 << 20;
/// A place further down is not put into errors: the lines before it would have to be carried along.
const MAX_PADDED_LINES: usize = 10_000;

/// One statement without its `;`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// From its first character on, a comment before it included.
    pub text: String,
    /// Line of that character, counted from 1.
    pub line: usize,
    /// Column of that character in characters, counted from 1.
    pub column: usize,
}

impl Statement {
    /// The text with so much white space before it that places in it are those of the whole input.
    pub fn padded(&self) -> String {
        let line = if self.line <= MAX_PADDED_LINES {
            self.line
        } else {
            1
        };
        let mut text = "\n".repeat(line - 1);
        text.push_str(&" ".repeat(self.column - 1));
        text.push_str(&self.text);
        text
    }
}

/// The statement has no end within [`MAX_STATEMENT_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the statement of line {line} is longer than {} MiB: end it with ;", MAX_STATEMENT_BYTES >> 20)]
pub struct TooLong {
    /// Where it began.
    pub line: usize,
}

/// Where the next character stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum State {
    #[default]
    Plain,
    /// In `'…'`, `"…"` or `` `…` ``; with `backslash` (`E'…'`) the next character can be escaped.
    Quoted {
        quote: char,
        backslash: bool,
    },
    /// In `$tag$ … $tag$`; the whole delimiter.
    Dollar(String),
    LineComment,
    BlockComment {
        depth: usize,
    },
}

/// Takes lines, gives statements.
#[derive(Debug, Clone)]
pub struct Splitter {
    state: State,
    text: String,
    /// Whether `text` holds more than white space and comments.
    has_token: bool,
    start: (usize, usize),
    next: (usize, usize),
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            state: State::Plain,
            text: String::new(),
            has_token: false,
            start: (1, 1),
            next: (1, 1),
        }
    }
}

impl Splitter {
    /// Takes some whole lines, with their line ends, and gives the statements that end in them.
    ///
    /// # Errors
    /// A statement is too long.
    pub fn push(&mut self, lines: &str) -> Result<Vec<Statement>, TooLong> {
        let mut ended = Vec::new();
        let mut rest = lines;
        while let Some(character) = rest.chars().next() {
            let taken = self.step(rest, character, &mut ended);
            rest = &rest[taken..];
            if self.text.len() > MAX_STATEMENT_BYTES {
                return Err(TooLong { line: self.start.0 });
            }
        }
        Ok(ended)
    }

    /// What has no `;`, if it is more than comments.
    pub fn finish(&mut self) -> Option<Statement> {
        let rest = std::mem::take(self);
        let (line, column) = rest.start;
        rest.has_token.then_some(Statement {
            text: rest.text.trim_end().to_owned(),
            line,
            column,
        })
    }

    /// Whether the next line begins something new: nothing is open, and there is nothing but comments.
    pub fn is_between_statements(&self) -> bool {
        !self.has_token && matches!(self.state, State::Plain | State::LineComment)
    }

    /// Whether the next character would be SQL, not part of a quoted text or a comment.
    pub fn is_plain(&self) -> bool {
        self.state == State::Plain
    }

    /// Takes what `rest` begins with, one or two characters or a delimiter, and says how many bytes that was.
    fn step(&mut self, rest: &str, character: char, ended: &mut Vec<Statement>) -> usize {
        match &mut self.state {
            State::Plain => return self.step_plain(rest, character, ended),
            State::Quoted { quote, backslash } => {
                if *backslash && character == '\\' {
                    let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
                    return self.take(&rest[..1 + escaped]);
                }
                // A doubled quote ends the text and begins it again, which comes to the same.
                if character == *quote {
                    self.state = State::Plain;
                }
            }
            State::Dollar(delimiter) => {
                if rest.starts_with(delimiter.as_str()) {
                    let length = delimiter.len();
                    self.state = State::Plain;
                    return self.take(&rest[..length]);
                }
            }
            State::LineComment => {
                if character == '\n' {
                    self.state = State::Plain;
                }
            }
            State::BlockComment { depth } => {
                if rest.starts_with("/*") {
                    *depth += 1;
                    return self.take("/*");
                }
                if rest.starts_with("*/") {
                    *depth -= 1;
                    if *depth == 0 {
                        self.state = State::Plain;
                    }
                    return self.take("*/");
                }
            }
        }
        self.take(&rest[..character.len_utf8()])
    }

    fn step_plain(&mut self, rest: &str, character: char, ended: &mut Vec<Statement>) -> usize {
        match character {
            ';' => {
                let (line, column) = self.start;
                let text = std::mem::take(&mut self.text);
                if std::mem::take(&mut self.has_token) {
                    ended.push(Statement {
                        text: text.trim_end().to_owned(),
                        line,
                        column,
                    });
                }
                self.advance(";");
                return 1;
            }
            '-' if rest.starts_with("--") => {
                self.state = State::LineComment;
                return self.take("--");
            }
            '/' if rest.starts_with("/*") => {
                self.state = State::BlockComment { depth: 1 };
                return self.take("/*");
            }
            '\'' | '"' | '`' => {
                let backslash = character == '\'' && self.after_word() == Some("e");
                self.state = State::Quoted {
                    quote: character,
                    backslash,
                };
            }
            '$' if self.after_word().is_none() => {
                if let Some(delimiter) = dollar_delimiter(rest) {
                    self.state = State::Dollar(delimiter.to_owned());
                    self.has_token = true;
                    return self.take(delimiter);
                }
            }
            _ => {}
        }
        self.has_token |= !character.is_whitespace();
        self.take(&rest[..character.len_utf8()])
    }

    /// The word that the text ends with: `e` in lower case for the one that matters, any other as it is not.
    fn after_word(&self) -> Option<&'static str> {
        let word = self
            .text
            .rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .next()?;
        match word {
            "" => None,
            "e" | "E" => Some("e"),
            _ => Some("another"),
        }
    }

    /// Adds to the statement; white space before it is left out.
    fn take(&mut self, piece: &str) -> usize {
        if self.text.is_empty() {
            self.start = self.next;
        }
        if !(self.text.is_empty() && piece.trim().is_empty()) {
            self.text.push_str(piece);
        }
        self.advance(piece);
        piece.len()
    }

    fn advance(&mut self, piece: &str) {
        for character in piece.chars() {
            self.next = match character {
                '\n' => (self.next.0 + 1, 1),
                _ => (self.next.0, self.next.1 + 1),
            };
        }
    }
}

/// `$$` or `$tag$` at the beginning of `rest`; `$1` and `$name` are parameters.
fn dollar_delimiter(rest: &str) -> Option<&str> {
    let tag = rest[1..].find('$')?;
    let name = &rest[1..1 + tag];
    let is_tag = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes().first().is_some_and(u8::is_ascii_digit);
    is_tag.then(|| &rest[..tag + 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::default();
        let mut ended = Vec::new();
        for line in text.split_inclusive('\n') {
            ended.extend(splitter.push(line).expect("short"));
        }
        let ended = ended.into_iter().map(|statement| statement.text).collect();
        (ended, splitter.finish().map(|statement| statement.text))
    }

    #[test]
    fn a_statement_ends_at_a_semicolon_that_is_sql() {
        let cases: [(&str, &[&str], Option<&str>); 13] = [
            ("select 1; select 2;", &["select 1", "select 2"], None),
            ("select 1", &[], Some("select 1")),
            (";;\n ;", &[], None),
            ("select ';' , \";\", `;`;", &["select ';' , \";\", `;`"], None),
            ("select 'it''s;';", &["select 'it''s;'"], None),
            ("select E'\\';'; select 1;", &["select E'\\';'", "select 1"], None),
            ("select '\\'; select 1;", &["select '\\'", "select 1"], None),
            ("-- a; b\nselect 1;", &["-- a; b\nselect 1"], None),
            (
                "/* a; /* b; */ ; */ select 1;",
                &["/* a; /* b; */ ; */ select 1"],
                None,
            ),
            ("select $$;$$, $x$;$$;$x$;", &["select $$;$$, $x$;$$;$x$"], None),
            ("select $from; select $to;", &["select $from", "select $to"], None),
            ("-- only a comment\n", &[], None),
            ("select 'open;\n", &[], Some("select 'open;")),
        ];
        for (text, ended, rest) in cases {
            let (found, left) = split(text);
            assert_eq!(found, ended, "{text:?}");
            assert_eq!(left.as_deref(), rest, "{text:?}");
        }
    }

    #[test]
    fn places_are_those_of_the_whole_input() {
        let mut splitter = Splitter::default();
        let mut found = splitter.push("select 1; selec 2\n").expect("short");
        found.extend(splitter.push("  ; \n\n é; x;\n").expect("short"));
        let places: Vec<_> = found
            .iter()
            .map(|statement| (statement.text.as_str(), statement.line, statement.column))
            .collect();
        assert_eq!(
            places,
            [("select 1", 1, 1), ("selec 2", 1, 11), ("é", 4, 2), ("x", 4, 5)]
        );
        assert_eq!(found[1].padded(), "          selec 2");
        assert_eq!(found[3].padded(), "\n\n\n    x");
    }

    #[test]
    fn what_is_open_is_known() {
        let after = |text: &str| {
            let mut splitter = Splitter::default();
            splitter.push(text).expect("short");
            (splitter.is_between_statements(), splitter.is_plain())
        };
        assert_eq!(after(""), (true, true));
        assert_eq!(after("-- a comment"), (true, false));
        assert_eq!(after("/* a"), (false, false));
        assert_eq!(after("select"), (false, true));
        assert_eq!(after("select 'a"), (false, false));
        assert_eq!(after("select 'a';\n"), (true, true));
    }

    #[test]
    fn a_statement_without_an_end_is_refused() {
        let mut splitter = Splitter::default();
        splitter.push("\nselect 1\n").expect("short");
        let line = format!("-- {}\n", "x".repeat(1000));
        let refused = (0..2000).find_map(|_| splitter.push(&line).err());
        assert_eq!(refused, Some(TooLong { line: 2 }));
    }
}
