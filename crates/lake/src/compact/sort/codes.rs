//! Texts of few different values as numbers of two bytes, the same for all files of a sort.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, StringArray};

/// What stands for null.
pub(super) const NULL: u16 = 0;

/// A column has more different values than there are numbers.
#[derive(Debug)]
pub(super) struct TooMany {
    /// Its name.
    pub column: String,
}

/// The numbers of all columns that have them.
pub(super) struct Codebook {
    columns: Vec<(String, Mutex<Book>)>,
}

#[derive(Default)]
struct Book {
    codes: HashMap<String, u16>,
    texts: Vec<String>,
}

impl Codebook {
    /// An empty book of these columns.
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        Self {
            columns: names.map(|name| (name, Mutex::default())).collect(),
        }
    }

    fn book(&self, column: usize) -> MutexGuard<'_, Book> {
        self.columns[column]
            .1
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of each of these texts; a new text gets a new one.
    pub(super) fn codes_of(&self, column: usize, texts: &StringArray) -> Result<Vec<u16>, TooMany> {
        let mut book = self.book(column);
        let mut codes = Vec::with_capacity(texts.len());
        for text in texts {
            codes.push(match text {
                None => NULL,
                Some(text) => match book.codes.get(text) {
                    Some(code) => *code,
                    None => {
                        let code = u16::try_from(book.texts.len() + 1).map_err(|_| TooMany {
                            column: self.columns[column].0.clone(),
                        })?;
                        book.texts.push(text.to_owned());
                        book.codes.insert(text.to_owned(), code);
                        code
                    }
                },
            });
        }
        Ok(codes)
    }

    /// Where each number's text stands among the texts that are known now, by number; null comes first.
    pub(super) fn ranks(&self, column: usize) -> Vec<u16> {
        let book = self.book(column);
        let mut order: Vec<usize> = (0..book.texts.len()).collect();
        order.sort_unstable_by(|a, b| book.texts[*a].cmp(&book.texts[*b]));
        let mut ranks = vec![0; book.texts.len() + 1];
        for (rank, text) in order.into_iter().enumerate() {
            // There are at most 65,535 texts.
            ranks[text + 1] = (rank + 1) as u16;
        }
        ranks
    }

    /// The texts by number.
    pub(super) fn texts(&self, column: usize) -> StringArray {
        let book = self.book(column);
        StringArray::from_iter_values(std::iter::once("").chain(book.texts.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_get_numbers_and_ranks_follow_the_alphabet() {
        let book = Codebook::new(["region".to_owned()].into_iter());
        let first = StringArray::from(vec![Some("West"), None, Some("Midwest")]);
        assert_eq!(book.codes_of(0, &first).unwrap(), [1, 0, 2]);
        let second = StringArray::from(vec!["Midwest", "South"]);
        assert_eq!(book.codes_of(0, &second).unwrap(), [2, 3]);
        assert_eq!(book.ranks(0), [0, 3, 1, 2]);
        assert_eq!(book.texts(0).value(3), "South");
    }

    #[test]
    fn too_many_texts_are_told() {
        let book = Codebook::new(["locale".to_owned()].into_iter());
        let texts = |range: std::ops::Range<u32>| {
            StringArray::from_iter_values(range.map(|number| number.to_string()))
        };
        assert_eq!(book.codes_of(0, &texts(0..65_535)).unwrap().len(), 65_535);
        assert!(book.codes_of(0, &texts(0..65_535)).is_ok());
        assert_eq!(
            book.codes_of(0, &texts(65_534..65_536)).unwrap_err().column,
            "locale"
        );
    }
}
