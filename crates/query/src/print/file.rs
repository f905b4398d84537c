//! A file that is there whole or not at all.
//!
//! What is written goes into a new file beside it, which takes its name at the end ([`WholeFile::finish`]). Whatever goes
//! wrong before leaves the old file as it was; the new one is removed, unless the process is killed. What is no plain file
//! (a pipe, a device) is written as it comes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// The file.
#[derive(Debug)]
pub struct WholeFile {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    New {
        file: BufWriter<NamedTempFile>,
        target: PathBuf,
    },
    Direct(BufWriter<File>),
}

impl WholeFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// When there is no such directory, or it cannot be written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        let kind = match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
            }
            // A link stays, and what it points to is replaced.
            Ok(there) if there.is_file() => Kind::beside(fs::canonicalize(path)?, Some(there.permissions()))?,
            Ok(_) => Kind::Direct(BufWriter::new(OpenOptions::new().write(true).open(path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kind::beside(path.to_owned(), None)?,
            Err(error) => return Err(error),
        };
        Ok(Self { kind })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When what was written cannot be stored; the old file stays.
    pub fn finish(self) -> io::Result<()> {
        match self.kind {
            Kind::New { file, target } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(target).map_err(|error| error.error)?;
                Ok(())
            }
            Kind::Direct(mut file) => file.flush(),
        }
    }
}

impl Kind {
    fn beside(target: PathBuf, permissions: Option<fs::Permissions>) -> io::Result<Self> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = Builder::new();
        builder.prefix(".loginlake-").suffix(".tmp");
        // A new file is as open as any other that the user makes; one that was there keeps its permissions.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(directory)?;
        if let Some(permissions) = permissions {
            file.as_file().set_permissions(permissions)?;
        }
        Ok(Self::New {
            file: BufWriter::new(file),
            target,
        })
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::New { file, .. } => file.write(bytes),
            Kind::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::New { file, .. } => file.flush(),
            Kind::Direct(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_only_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        assert!(!path.exists());
        drop(file);
        assert!(names(directory.path()).is_empty());

        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");

        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"another half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["out.csv"]);
    }

    #[test]
    fn a_directory_is_refused_and_a_missing_one_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let error = WholeFile::create(directory.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = WholeFile::create(&directory.path().join("no/out.csv")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_devices_are_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target.csv"),
            directory.path().join("link.csv"),
        );
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut file = WholeFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");

        let mut null = WholeFile::create(Path::new("/dev/null")).unwrap();
        null.write_all(b"gone").unwrap();
        null.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
