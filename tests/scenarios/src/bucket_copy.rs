//! A scenario's bucket as a folder on the disk, for looks at each object that no client of the store offers: what is in its bytes,
//! and what becomes of it when it is old.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::scenario::Scenario;

/// A place where a text was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// The object.
    pub object: String,
    /// `bytes`, or a column or the footer of a Parquet file.
    pub place: String,
    /// The text.
    pub text: String,
}

/// A copy of all objects of a bucket as they were at one time.
#[derive(Debug)]
pub struct BucketCopy {
    dir: PathBuf,
    objects: usize,
}

impl BucketCopy {
    /// Copies a scenario's bucket into a new folder. Objects that go away meanwhile are left out.
    ///
    /// # Errors
    /// When the store does not answer, or the disk is full.
    pub fn of(scenario: &Scenario, name: &str) -> Result<BucketCopy> {
        let dir = scenario.dir().join(name);
        let bucket = scenario.bucket();
        let mut objects = 0;
        for object in scenario.minio.list(&bucket)? {
            let Some(bytes) = scenario.minio.get(&bucket, &object)? else {
                continue;
            };
            let path = dir.join(&object);
            fs::create_dir_all(path.parent().context("an object without a name")?)?;
            fs::write(path, bytes)?;
            objects += 1;
        }
        Ok(BucketCopy { dir, objects })
    }

    /// The lake in it, as `--lake` takes it.
    pub fn lake(&self) -> String {
        self.dir.join("lake").display().to_string()
    }

    /// A file or folder of the lake.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join("lake").join(name)
    }

    /// How many objects it holds.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Where any of the texts is: in the bytes of an object, or in the values and the footer of a Parquet file as pyarrow reads
    /// them. Small and capital letters are alike; escapes of JSON and the zeros of UTF-16 are seen through.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn find(&self, scenario: &Scenario, texts: &[String]) -> Result<Vec<Place>> {
        let dir = self.dir.display().to_string();
        let arguments: Vec<&str> = std::iter::once(dir.as_str())
            .chain(texts.iter().map(String::as_str))
            .collect();
        let answer = scenario.reader().run("find_text.py", &arguments)?;
        serde_json::from_str(&answer).with_context(|| format!("no places: {answer}"))
    }

    /// Makes every file in a folder of the lake so much older than it is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn make_older(&self, folder: &str, by: Duration) -> Result<()> {
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    make_older(&path, by)?;
                }
            }
        }
        Ok(())
    }
}

fn make_older(path: &Path, by: Duration) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let modified = file.metadata()?.modified().unwrap_or_else(|_| SystemTime::now());
    Ok(file.set_modified(modified - by)?)
}
