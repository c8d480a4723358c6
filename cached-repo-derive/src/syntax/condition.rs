//! The condition of a lookup as it is written: `where = "deleted_at IS NULL AND status = 'active'"`.
//!
//! ```text
//! condition = term { "AND" term }
//! term      = "(" condition ")"
//!           | [ "NOT" ] column
//!           | column "IS" [ "NOT" ] ( "NULL" | "TRUE" | "FALSE" )
//!           | column ( "=" | "<>" | "!=" ) ( integer | 'text' | "TRUE" | "FALSE" )
//! ```
//! Invariants:
//! - What is not understood is an error: no text reaches the database unseen.
//!
//! Does not know whether the columns exist.

use std::{iter::Peekable, str::Chars};

use syn::LitStr;

/// What a lookup demands of its rows.
pub(crate) struct ConditionAttr {
    pub(crate) literal: LitStr,
    /// All of them are to be met.
    pub(crate) terms: Vec<TermSyntax>,
}

/// One term.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TermSyntax {
    pub(crate) column: String,
    pub(crate) test: Test,
}

/// What a term says of its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Null { is_null: bool },
    Boolean(bool),
    Integer { is_equal: bool, number: i64 },
    Text { is_equal: bool, text: String },
}

/// What a condition may consist of, for messages.
const UNDERSTOOD: &str = "terms with AND between them: `deleted_at IS NULL`, `deleted_at IS NOT NULL`, \
                          `active`, `NOT active`, `status = 'active'`, `kind <> 2`";

/// Reads a condition.
pub(crate) fn read(literal: LitStr) -> syn::Result<ConditionAttr> {
    match parse(&literal.value()) {
        Ok(terms) => Ok(ConditionAttr { literal, terms }),
        Err(problem) => Err(syn::Error::new(
            literal.span(),
            format!("{problem}: `where` understands {UNDERSTOOD}"),
        )),
    }
}

/// A word, a literal or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A name in quotes, which is no keyword.
    Name(String),
    Text(String),
    Integer(i64),
    Sign(&'static str),
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn written(&self) -> String {
        match self {
            Self::Word(word) | Self::Name(word) => word.clone(),
            Self::Text(text) => format!("'{text}'"),
            Self::Integer(number) => number.to_string(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

const KEYWORDS: [&str; 8] = ["AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "IN"];
const SIGNS: [&str; 5] = ["<>", "!=", "=", "(", ")"];

fn parse(text: &str) -> Result<Vec<TermSyntax>, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        terms: Vec::new(),
    };
    if parser.tokens.peek().is_none() {
        return Err("the condition is empty".into());
    }
    parser.condition()?;
    match parser.tokens.next() {
        None => Ok(parser.terms),
        Some(token) => Err(unexpected(&token)),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&first) = rest.peek() {
        match first {
            _ if first.is_whitespace() => {
                rest.next();
            }
            '\'' => tokens.push(Token::Text(quoted(&mut rest)?)),
            '"' | '`' => tokens.push(Token::Name(quoted(&mut rest)?)),
            '-' | '0'..='9' => {
                let mut digits = String::new();
                while let Some(digit) =
                    rest.next_if(|c| *c == '-' || c.is_alphanumeric() || *c == '.')
                {
                    digits.push(digit);
                }
                let number = digits.parse();
                tokens.push(Token::Integer(
                    number.map_err(|_| format!("`{digits}` is not an integer of 64 bits"))?,
                ));
            }
            _ if first.is_alphabetic() || first == '_' => {
                let mut word = String::new();
                while let Some(letter) = rest.next_if(|c| *c == '_' || c.is_alphanumeric()) {
                    word.push(letter);
                }
                tokens.push(Token::Word(word));
            }
            _ => {
                let rest_text: String = rest.clone().take(2).collect();
                let sign = SIGNS.iter().find(|sign| rest_text.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("unexpected `{first}`"))?;
                for _ in 0..sign.len() {
                    rest.next();
                }
                tokens.push(Token::Sign(sign));
            }
        }
    }
    Ok(tokens)
}

/// What is between two quotes of a kind; two of them stand for one.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut text = String::new();
    let Some(quote) = rest.next() else {
        return Ok(text);
    };
    while let Some(letter) = rest.next() {
        if letter != quote {
            text.push(letter);
        } else if rest.next_if_eq(&quote).is_some() {
            text.push(quote);
        } else {
            return Ok(text);
        }
    }
    Err(format!("a closing {quote} is missing"))
}

fn unexpected(token: &Token) -> String {
    format!("unexpected `{}`", token.written())
}

struct Parser<I: Iterator<Item = Token>> {
    tokens: Peekable<I>,
    terms: Vec<TermSyntax>,
}

impl<I: Iterator<Item = Token>> Parser<I> {
    fn condition(&mut self) -> Result<(), String> {
        self.term()?;
        while self.tokens.next_if(|token| token.is("AND")).is_some() {
            self.term()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.next();
        token.ok_or_else(|| "the condition ends too early".into())
    }

    fn eat(&mut self, keyword: &str) -> bool {
        self.tokens.next_if(|token| token.is(keyword)).is_some()
    }

    fn term(&mut self) -> Result<(), String> {
        if self.tokens.next_if_eq(&Token::Sign("(")).is_some() {
            self.condition()?;
            return match self.next()? {
                Token::Sign(")") => Ok(()),
                other => Err(unexpected(&other)),
            };
        }
        let is_negated = self.eat("NOT");
        let column = match self.next()? {
            Token::Word(word) if !KEYWORDS.iter().any(|key| key.eq_ignore_ascii_case(&word)) => {
                word
            }
            Token::Name(name) => name,
            other => return Err(unexpected(&other)),
        };
        let test = match is_negated {
            true => Test::Boolean(false),
            false => self.test()?,
        };
        self.terms.push(TermSyntax { column, test });
        Ok(())
    }

    /// What follows a column.
    fn test(&mut self) -> Result<Test, String> {
        if self.eat("IS") {
            let is = !self.eat("NOT");
            return match self.next()? {
                token if token.is("NULL") => Ok(Test::Null { is_null: is }),
                token if token.is("TRUE") && is => Ok(Test::Boolean(true)),
                token if token.is("FALSE") && is => Ok(Test::Boolean(false)),
                other => Err(unexpected(&other)),
            };
        }
        let is_sign = |token: &Token| matches!(token, Token::Sign("=" | "<>" | "!="));
        let Some(sign) = self.tokens.next_if(is_sign) else {
            return Ok(Test::Boolean(true));
        };
        let is_equal = sign == Token::Sign("=");
        match self.next()? {
            Token::Integer(number) => Ok(Test::Integer { is_equal, number }),
            Token::Text(text) => Ok(Test::Text { is_equal, text }),
            token if token.is("TRUE") => Ok(Test::Boolean(is_equal)),
            token if token.is("FALSE") => Ok(Test::Boolean(!is_equal)),
            token if token.is("NULL") => {
                Err("nothing is equal to NULL, write `IS NULL` or `IS NOT NULL`".into())
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TermSyntax, Test, parse};

    fn term(column: &str, test: Test) -> TermSyntax {
        TermSyntax {
            column: column.into(),
            test,
        }
    }

    #[test]
    fn each_kind_of_term_is_understood() {
        let null = |is_null| Test::Null { is_null };
        let text = |is_equal, text: &str| Test::Text {
            is_equal,
            text: text.into(),
        };
        let integer = |is_equal, number| Test::Integer { is_equal, number };
        for (condition, column, test) in [
            ("deleted_at IS NULL", "deleted_at", null(true)),
            ("deleted_at is  not\nnull", "deleted_at", null(false)),
            ("(\"order\" IS NULL)", "order", null(true)),
            ("`order`", "order", Test::Boolean(true)),
            ("active", "active", Test::Boolean(true)),
            ("not active", "active", Test::Boolean(false)),
            ("active IS TRUE", "active", Test::Boolean(true)),
            ("active IS false", "active", Test::Boolean(false)),
            ("active = FALSE", "active", Test::Boolean(false)),
            ("active <> FALSE", "active", Test::Boolean(true)),
            ("status='act''ive'", "status", text(true, "act'ive")),
            ("status != ''", "status", text(false, "")),
            ("kind<>-2", "kind", integer(false, -2)),
            (
                "kind = 9223372036854775807",
                "kind",
                integer(true, i64::MAX),
            ),
        ] {
            assert_eq!(
                parse(condition).unwrap(),
                [term(column, test)],
                "{condition}"
            );
        }
    }

    #[test]
    fn terms_are_joined_by_and_in_whatever_parentheses() {
        let terms = parse("a AND (b = 1 and (NOT c)) AND ((d IS NULL))").unwrap();
        let columns: Vec<_> = terms.iter().map(|term| &*term.column).collect();
        assert_eq!(columns, ["a", "b", "c", "d"]);
    }

    /// Goal: what could mean something else to the database is never let through.
    #[test]
    fn everything_else_is_an_error() {
        for (condition, problem) in [
            ("", "the condition is empty"),
            (" ", "the condition is empty"),
            ("a OR b", "unexpected `OR`"),
            ("a AND", "the condition ends too early"),
            ("AND a", "unexpected `AND`"),
            ("a b", "unexpected `b`"),
            ("(a", "the condition ends too early"),
            ("a)", "unexpected `)`"),
            ("NOT (a)", "unexpected `(`"),
            ("NOT a = 1", "unexpected `=`"),
            ("a > 1", "unexpected `>`"),
            ("a <= 1", "unexpected `<`"),
            ("a == 1", "unexpected `=`"),
            ("a = b", "unexpected `b`"),
            ("a IS NOT TRUE", "unexpected `TRUE`"),
            ("a IS 1", "unexpected `1`"),
            ("a IN (1)", "unexpected `IN`"),
            ("1 = a", "unexpected `1`"),
            ("lower(a) = 'x'", "unexpected `(`"),
            ("a = 'x", "a closing ' is missing"),
            ("a = \"x\"", "unexpected `x`"),
            ("a = 1.5", "`1.5` is not an integer of 64 bits"),
            ("a = 1e3", "`1e3` is not an integer of 64 bits"),
            (
                "a = 9223372036854775808",
                "`9223372036854775808` is not an integer of 64 bits",
            ),
            (
                "a = NULL",
                "nothing is equal to NULL, write `IS NULL` or `IS NOT NULL`",
            ),
            ("a; DROP TABLE b", "unexpected `;`"),
            ("a -- b", "`--` is not an integer of 64 bits"),
            ("t.a", "unexpected `.`"),
            ("a::text = 'x'", "unexpected `:`"),
        ] {
            assert_eq!(parse(condition).unwrap_err(), problem, "{condition}");
        }
    }
}
