//! What was measured, as Markdown.

use std::time::Duration;

/// One collection.
#[derive(Debug, Default)]
pub struct Run {
    pub size: u64,
    pub name: String,
    pub garbage: u64,
    pub deleted: u64,
    pub condemn: Duration,
    pub sweep: Duration,
    pub looks_ms: f64,
    pub claims_ms: f64,
    pub rows_ms: f64,
    /// Requests to S3.
    pub deletes: u64,
    pub turns: u64,
    pub longest_turn_ms: f64,
    pub peak_kb: u64,
    /// CPU seconds of the server's sessions; 0: not measured.
    pub database_cpu: f64,
}

/// A mark over all of the cache.
pub struct Marked {
    pub size: u64,
    /// How much garbage there is.
    pub asked: u64,
    pub garbage: u64,
    pub took: Duration,
}

#[derive(Default)]
pub struct Tables {
    pub runs: Vec<Run>,
    pub marks: Vec<Marked>,
    /// Milliseconds that plans took: alone, and during a collection.
    pub pushes: Vec<(u64, Vec<f64>, Vec<f64>)>,
}

impl Tables {
    pub fn print(&self) {
        println!(
            "| objects | garbage | found | condemn s | objects/s | sweep s | of it looks, claims, rows s | \
             S3 requests | turns | longest ms | DB CPU s | peak MB |"
        );
        println!("|{}", " --- |".repeat(12));
        for run in &self.runs {
            println!(
                "| {} | {} | {} | {:.2} | {:.0} | {:.2} | {:.2}, {:.2}, {:.2} | {} | {} | {:.0} | {:.1} | {:.0} |",
                run.size,
                run.name,
                run.garbage,
                run.condemn.as_secs_f64(),
                run.garbage as f64 / run.condemn.as_secs_f64(),
                run.sweep.as_secs_f64(),
                run.looks_ms / 1000.0,
                run.claims_ms / 1000.0,
                run.rows_ms / 1000.0,
                run.deletes,
                run.turns,
                run.longest_turn_ms,
                run.database_cpu,
                run.peak_kb as f64 * 1024.0 / 1e6,
            );
            if run.deleted != run.garbage {
                println!("\n{} of these {} were deleted\n", run.deleted, run.garbage);
            }
        }
        self.print_ratios();
        if !self.marks.is_empty() {
            println!("\n| objects | a classical mark s | finds | condemning the same s |");
            println!("|{}", " --- |".repeat(4));
        }
        for mark in &self.marks {
            let ours = self.runs.iter().find(|run| {
                run.size == mark.size && run.garbage.abs_diff(mark.asked) < mark.asked / 10
            });
            let unfinished = if mark.garbage == 0 { "more than " } else { "" };
            println!(
                "| {} | {unfinished}{:.2} | {} | {} |",
                mark.size,
                mark.took.as_secs_f64(),
                mark.garbage,
                ours.map_or(String::new(), |run| format!("{:.2}", run.condemn.as_secs_f64())),
            );
        }
        if !self.pushes.is_empty() {
            println!(
                "\n| objects | plans alone | median ms | 95 % ms | during a collection | median ms | \
                 95 % ms | ratio of medians | of 95 % |"
            );
            println!("|{}", " --- |".repeat(9));
        }
        for (size, alone, during) in &self.pushes {
            let of = |times: &[f64], share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let (median, high) = (of(alone, 0.5), of(alone, 0.95));
            let (median_during, high_during) = (of(during, 0.5), of(during, 0.95));
            println!(
                "| {size} | {} | {median:.0} | {high:.0} | {} | {median_during:.0} | {high_during:.0} \
                 | {:.1} | {:.1} |",
                alone.len(),
                during.len(),
                median_during / median,
                high_during / high,
            );
        }
    }

    /// Each case at the largest size by the same at the smallest.
    fn print_ratios(&self) {
        let sizes = || self.runs.iter().map(|run| run.size);
        let (Some(least), Some(most)) = (sizes().min(), sizes().max()) else { return };
        if least == most {
            return;
        }
        println!(
            "\n| garbage | condemn: {most} by {least} objects | sweep: the same | DB CPU: the same |"
        );
        println!("|{}", " --- |".repeat(4));
        for large in self.runs.iter().filter(|run| run.size == most) {
            let small = self.runs.iter().find(|run| {
                run.size == least
                    && run.name == large.name
                    && run.garbage.abs_diff(large.garbage) < large.garbage / 10
            });
            if let Some(small) = small {
                println!(
                    "| {}, {} | {:.2} | {:.2} | {:.2} |",
                    large.name,
                    large.garbage,
                    large.condemn.as_secs_f64() / small.condemn.as_secs_f64(),
                    large.sweep.as_secs_f64() / small.sweep.as_secs_f64(),
                    large.database_cpu / small.database_cpu,
                );
            }
        }
    }
}
