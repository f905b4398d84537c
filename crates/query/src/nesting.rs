//! A limit on how deeply expressions nest, checked before anything recurses over them.
//!
//! `a OR b OR c …` is a tree as deep as it is long, and the planner walks trees by recursion: without a limit, a long
//! generated condition would end the process instead of the query. Statements below the limit are planned on a stack
//! that is large enough for it (see [`PLANNING_STACK_BYTES`]).

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::QueryError;
use crate::place::{Place, Source};

/// Operators that may stand in one expression without a comma between them, and set operations and joins likewise. As
/// many as a worker's 2 MiB of stack evaluate even unoptimised.
const MAX_CHAINED_OPERATORS: usize = 400;
/// Stack of the thread that plans: many times what the planner was seen to need at the limit, unoptimised.
pub(crate) const PLANNING_STACK_BYTES: usize = 64 << 20;

/// Refuses a text in which an expression is deeper than the limit, at the first operator that is too much.
pub(crate) fn check_nesting(source: Source<'_>) -> Result<(), QueryError> {
    // A text that is not even tokens is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, source.sql).tokenize_with_location() else {
        return Ok(());
    };
    match first_too_deep(&tokens) {
        None => Ok(()),
        Some(token) => {
            let message = format!(
                "more than {MAX_CHAINED_OPERATORS} operators in one expression: write IN (…) instead of many ORs, or \
                 join with VALUES"
            );
            Err(QueryError::Sql(source.error_at(Place::of(token), message)))
        }
    }
}

/// An upper bound of the depth is counted: the operators since the last comma, summed over the open parentheses.
fn first_too_deep(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut outer: Vec<usize> = Vec::new();
    let mut outer_sum = 0;
    let mut chained = 0;
    for token in tokens {
        match &token.token {
            Token::LParen => {
                outer.push(chained);
                outer_sum += chained;
                chained = 0;
            }
            Token::RParen => {
                chained = outer.pop().unwrap_or_default();
                outer_sum -= chained;
            }
            Token::SemiColon => {
                outer.clear();
                (outer_sum, chained) = (0, 0);
            }
            Token::Comma => chained = 0,
            token if is_operator(token) => chained += 1,
            _ => {}
        }
        if outer_sum + chained > MAX_CHAINED_OPERATORS {
            return Some(token);
        }
    }
    None
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::JOIN
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
        ),
        Token::Whitespace(_)
        | Token::EOF
        | Token::Period
        | Token::LBrace
        | Token::RBrace
        | Token::RBracket => false,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_accepted(sql: &str) -> bool {
        check_nesting(Source { name: "x", sql }).is_ok()
    }

    #[test]
    fn long_chains_are_refused_in_whatever_form() {
        let many = MAX_CHAINED_OPERATORS + 1;
        for chain in [
            "+1",
            " OR a",
            "::int",
            " UNION SELECT 1",
            " || f(a, b)",
            "[1]",
            " IS NULL",
            " CROSS JOIN t",
        ] {
            assert!(
                !is_accepted(&format!("SELECT 1{}", chain.repeat(many))),
                "{chain}"
            );
            assert!(
                is_accepted(&format!("SELECT 1{}", chain.repeat(MAX_CHAINED_OPERATORS / 2))),
                "{chain}"
            );
        }
        assert!(!is_accepted(&format!(
            "SELECT {}1{}",
            "(1+".repeat(many),
            ")".repeat(many)
        )));
    }

    #[test]
    fn long_lists_are_not_deep() {
        assert!(is_accepted(&format!("SELECT a IN ({}1)", "-1, ".repeat(10_000))));
        assert!(is_accepted(
            &"SELECT a + b, c * d FROM t WHERE a = 1 AND b = 2;\n".repeat(1_000)
        ));
        assert!(is_accepted(&format!(
            "VALUES {}(1)",
            "(1, 'a.b.c'), ".repeat(10_000)
        )));
    }

    #[test]
    fn unbalanced_parentheses_are_left_to_the_parser() {
        assert!(is_accepted("SELECT 1)))) + ((2"));
        assert!(is_accepted("; ) ; ( ;"));
    }
}
