//! A report for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use super::{Finding, Kind, MAX_FINDINGS, Report};

/// Findings of a kind that are named.
const EXAMPLES: usize = 10;

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && !self.more
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(done) = &self.repaired {
            writeln!(
                f,
                "adopted {} narinfos, sent {} again, removed {} that cannot be realised; {} objects were \
                 lost",
                done.adopted, done.sent_again, done.removed, done.lost
            )?;
            if done.trusted {
                writeln!(f, "database and bucket belong together from now on")?;
            }
        }
        let mut kinds: BTreeMap<Kind, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            kinds.entry(finding.kind).or_default().push(finding);
        }
        for (kind, findings) in kinds {
            writeln!(f, "{} {}", findings.len(), kind.sentence())?;
            for finding in findings.iter().take(EXAMPLES) {
                writeln!(f, "  {finding}")?;
            }
            if findings.len() > EXAMPLES {
                writeln!(f, "  and {} more", findings.len() - EXAMPLES)?;
            }
        }
        if self.more {
            writeln!(f, "there are more than these {MAX_FINDINGS}")?;
        }
        let mut looked = format!("looked at {} objects in the database", self.objects);
        if let Some(in_bucket) = self.in_bucket {
            // Writing to a String cannot fail.
            let _ = write!(looked, " and {in_bucket} in the bucket");
        }
        if self.foreign > 0 {
            let _ = write!(looked, ", beside which {} keys there are not ours", self.foreign);
        }
        match self.findings.len() {
            0 => writeln!(f, "{looked}: nothing is wrong"),
            wrong => writeln!(f, "{looked}: {wrong} things are wrong"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_empty() { "no key" } else { &self.key })?;
        if let Some(id) = self.id {
            write!(f, " (object {id}")?;
            if let Some(other) = self.other {
                write!(f, ", other {other}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}
