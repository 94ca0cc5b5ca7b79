//! A report for people.

use std::fmt;

use super::Report;

impl Report {
    /// Whether everything has the signatures that it shall have.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.refused == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { looked_at, resigned, sent, left, refused, refusals } = self;
        writeln!(
            f,
            "looked at {looked_at} narinfos and realisations: {resigned} signed anew, {sent} sent"
        )?;
        if *left > 0 {
            writeln!(f, "{left} were being written all the time; run this again")?;
        }
        if *refused > 0 {
            writeln!(f, "{refused} cannot be signed otherwise and are as they were:")?;
            for refusal in refusals {
                writeln!(f, "  {}: {}", refusal.key, refusal.why)?;
            }
        }
        Ok(())
    }
}
