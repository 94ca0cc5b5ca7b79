//! Where Nix keeps build logs: under the derivation's name, compressed with bzip2 unless it was told
//! not to.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use bzip2::bufread::MultiBzDecoder;
use niks3_core::store_path::StorePath;

/// Where they lie in Nix's folder for logs.
const FOLDER: &str = "drvs";

/// The build log of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLog {
    file: PathBuf,
    compressed: bool,
}

impl BuildLog {
    /// Bytes that reading one takes: what bzip2 needs for its largest blocks.
    /// <https://sourceware.org/bzip2/manual/manual.html#memory-management>
    pub const READER_BYTES: u64 = 4 * 1024 * 1024;

    /// Looks for it in `log_dir`, in the places where `nix log` looks and in the same order: in a folder
    /// that has the first two characters of the name, and, where Nix put it long ago, beside these
    /// folders.
    #[must_use]
    pub fn find(log_dir: &Path, derivation: &StorePath) -> Option<Self> {
        let (name, folder) = (derivation.to_string(), log_dir.join(FOLDER));
        let places = [folder.join(&name[..2]).join(&name[2..]), folder.join(&name)];
        places.into_iter().find_map(|plain| {
            let mut compressed = plain.clone().into_os_string();
            compressed.push(".bz2");
            let candidates = [(plain, false), (compressed.into(), true)];
            let mut logs =
                candidates.into_iter().map(|(file, compressed)| Self { file, compressed });
            logs.find(|log| log.file.is_file())
        })
    }

    /// Which file it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its text: what `nix log` shows.
    ///
    /// # Errors
    /// When the file cannot be opened. Reading fails where it is damaged or was cut short.
    pub fn open(&self) -> io::Result<Box<dyn Read>> {
        let file = File::open(&self.file)?;
        if !self.compressed {
            return Ok(Box::new(file));
        }
        // The decoder takes nothing at all for a text without bytes.
        if file.metadata()?.len() == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Box::new(MultiBzDecoder::new(BufReader::new(file))))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bzip2::{Compression, bufread::BzEncoder};

    use super::*;

    const NAME: &str = "iiw8cjbn92bqr9b06x1l9l1h2fsa28vp-leaf.drv";

    fn compressed(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        BzEncoder::new(text.as_bytes(), Compression::best()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn read(folder: &Path) -> Option<io::Result<String>> {
        let log = BuildLog::find(folder, &NAME.parse().unwrap())?;
        let mut text = String::new();
        Some(log.open().and_then(|mut log| log.read_to_string(&mut text)).map(|_| text))
    }

    #[test]
    fn a_log_is_found_where_nix_puts_it_and_the_first_place_wins() {
        let folder = tempfile::tempdir().unwrap();
        let drvs = folder.path().join("drvs");
        fs::create_dir_all(drvs.join("ii")).unwrap();
        let nested = drvs.join("ii/w8cjbn92bqr9b06x1l9l1h2fsa28vp-leaf.drv");
        assert!(read(folder.path()).is_none());
        fs::create_dir(&nested).unwrap();
        assert!(read(folder.path()).is_none(), "a folder is no log");
        fs::remove_dir(&nested).unwrap();
        // From the last place to the first.
        for (file, text) in [
            (drvs.join(format!("{NAME}.bz2")), "flat, compressed"),
            (drvs.join(NAME), "flat"),
            (nested.with_extension("drv.bz2"), "compressed"),
            (nested, "plain"),
        ] {
            let bz2 = file.extension().unwrap() == "bz2";
            fs::write(&file, if bz2 { compressed(text) } else { text.into() }).unwrap();
            assert_eq!(read(folder.path()).unwrap().unwrap(), text);
            let log = BuildLog::find(folder.path(), &NAME.parse().unwrap()).unwrap();
            assert_eq!(log.file(), file);
        }
    }

    #[test]
    fn a_compressed_log_is_read_to_its_end_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("drvs")).unwrap();
        let file = folder.path().join("drvs").join(format!("{NAME}.bz2"));
        let text = "a line\n".repeat(10_000);
        let whole = compressed(&text);
        for (bytes, read_as) in [
            (compressed(""), Some(String::new())),
            // Written in two goes.
            ([whole.clone(), whole.clone()].concat(), Some(text.repeat(2))),
            (whole[..whole.len() / 2].to_vec(), None),
            (whole[..whole.len() - 1].to_vec(), None),
            ([&whole[..], b"rest"].concat(), None),
            (b"no bzip2".to_vec(), None),
            (Vec::new(), None),
        ] {
            fs::write(&file, bytes).unwrap();
            assert_eq!(read(folder.path()).unwrap().ok(), read_as);
        }
    }
}
