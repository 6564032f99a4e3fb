//! Many machines: the same runs as a SLURM job array.
//!
//! `OUT/slurm/manifest.jsonl` has a line for each run: its folder and the arguments of the trainer. `OUT/slurm/array.sh` is the
//! script of the array; its task N trains the run of line N. SLURM copies the script when it is submitted, so other arrays can
//! be submitted from the same folder meanwhile. Before the time limit SLURM signals the task, the trainer saves a checkpoint,
//! and the task puts itself back into the queue; so does SLURM after a machine failed. A task whose run is done ends at once,
//! so the same array can be submitted again.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::files::{shown, write};
use crate::plan::{Run, quoted};
use crate::run_folder::State;
use crate::runner;
use crate::terminal::{print, say};
use crate::trainer::Trainer;

/// Options of `--launcher slurm`.
#[derive(clap::Args)]
pub struct Options {
    /// With --launcher slurm: at most this many tasks at a time [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    throttle: Option<u32>,
    /// With --launcher slurm: time limit of a task, as sbatch takes it; a run that needs longer is queued again [default:
    /// 04:00:00]
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// With --launcher slurm: seconds before the limit at which a run saves and is queued again [default: 120]
    #[arg(long, value_name = "SECONDS")]
    signal_before: Option<u32>,
    /// With --launcher slurm: an option for sbatch, such as --partition=cpu; repeatable
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// With --launcher slurm: write the manifest and the script, and submit nothing
    #[arg(long)]
    no_submit: bool,
}

/// The tasks of an array: one less than SLURM's default `MaxArraySize`.
const ARRAY: usize = 1000;

/// A line of the manifest.
#[derive(Debug, Deserialize, Serialize)]
struct Task {
    id: String,
    folder: String,
    command: Vec<String>,
}

/// Writes the manifest and the script, and submits the array. `mark` makes the output folder one.
pub fn submit(
    options: &Options,
    trainer: &Trainer,
    runs: &[Run],
    out: &Path,
    mark: impl FnOnce() -> Result<()>,
) -> Result<ExitCode> {
    if !options.no_submit {
        let found = Command::new("sbatch").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            found.is_ok_and(|status| status.success()),
            "--launcher slurm: `sbatch` is not on the PATH; run this where jobs are submitted, or add --no-submit"
        );
    }
    let left: Vec<&Run> = runs.iter().filter(|run| State::of(&runner::folder(out, run)) != State::Done).collect();
    if left.is_empty() {
        say("all runs are done; report on them with --collect");
        return Ok(ExitCode::SUCCESS);
    }
    mark()?;
    let folder = out.join("slurm");
    let mut tasks = Vec::new();
    for run in &left {
        let target = runner::folder(out, run);
        let program = trainer.program.as_os_str().to_owned();
        let mut command = vec![text(program)?];
        for argument in trainer.arguments(run, &target) {
            command.push(text(argument)?);
        }
        tasks.push(Task { id: run.id.clone(), folder: text(target.into_os_string())?, command });
    }
    let lines = tasks.iter().map(|task| Ok(format!("{}\n", serde_json::to_string(task)?)));
    write(&folder.join("manifest.jsonl"), &lines.collect::<Result<String>>()?)?;
    for task in &tasks {
        write(&folder.join(format!("tasks/{}.sh", task.id)), &task.script())?;
    }
    write(&folder.join("logs/.keep"), "")?;
    say(format_args!("{} runs in {}", left.len(), shown(&folder.join("manifest.jsonl"))));
    for (number, tasks) in (1..).zip(tasks.chunks(ARRAY)) {
        let script = folder.join(if number == 1 { "array.sh".to_owned() } else { format!("array-{number}.sh") });
        write(&script, &options.script(trainer, tasks, &folder)?)?;
        if options.no_submit {
            print(&format!("sbatch {}\n", quoted(&shown(&script))))?;
            continue;
        }
        let output = Command::new("sbatch").arg(&script).output().context("cannot start sbatch")?;
        if !output.status.success() {
            bail!("sbatch refused {}: {}", shown(&script), String::from_utf8_lossy(&output.stderr).trim());
        }
        print(&String::from_utf8_lossy(&output.stdout))?;
    }
    if options.no_submit {
        return Ok(ExitCode::SUCCESS);
    }
    say("when the tasks have ended, repeat the command with --collect in place of --launcher slurm");
    Ok(ExitCode::SUCCESS)
}

impl Options {
    /// Fails if an option was given, which would have no effect on this machine.
    pub fn check_unused(&self) -> Result<()> {
        let given = [
            ("--throttle", self.throttle.is_some()),
            ("--time-limit", self.time_limit.is_some()),
            ("--signal-before", self.signal_before.is_some()),
            ("--sbatch", !self.sbatch.is_empty()),
            ("--no-submit", self.no_submit),
        ];
        let unused = given.iter().find(|(_, given)| *given);
        unused.map_or(Ok(()), |(option, _)| bail!("{option} needs --launcher slurm"))
    }

    /// The script of an array.
    fn script(&self, trainer: &Trainer, tasks: &[Task], folder: &Path) -> Result<String> {
        let folder = text(folder.as_os_str().to_owned())?;
        ensure!(
            !folder.contains(['\n', '%', '"', '\\']),
            "--out {folder}: SLURM needs a folder without `%`, `\"`, `\\` and newlines in its name"
        );
        let cores = trainer.threads.map_or(String::new(), |threads| format!("#SBATCH --cpus-per-task={threads}\n"));
        let more: String = self.sbatch.iter().map(|option| format!("#SBATCH {option}\n")).collect();
        let (throttle, before) = (self.throttle.unwrap_or(32), self.signal_before.unwrap_or(120));
        let limit = self.time_limit.as_deref().unwrap_or("04:00:00");
        Ok(format!(
            "#!/bin/bash\n\
             # Made by `cargo xtask reproduce --launcher slurm`: one task for each line of manifest.jsonl.\n\
             #SBATCH --job-name=convnn\n\
             #SBATCH --array=1-{last}%{throttle}\n\
             #SBATCH --time={limit}\n\
             #SBATCH --signal=B:USR1@{before}\n\
             #SBATCH --requeue\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --output=\"{folder}/logs/%A_%a.log\"\n\
             {cores}{more}\n\
             runs=({ids})\n\
             bash {scripts}/\"${{runs[SLURM_ARRAY_TASK_ID - 1]}}\".sh &\n\
             trainer=$!\n\
             # SLURM signals this shell before the time limit, and when the job is preempted or cancelled.\n\
             forward() {{ pkill -\"$1\" -P \"$trainer\" || true; }}\n\
             trap 'forward USR1' USR1\n\
             trap 'forward TERM' TERM\n\
             # wait is interrupted by every signal; the trainer ends after it has saved.\n\
             while :; do\n    \
                 wait \"$trainer\"\n    \
                 code=$?\n    \
                 kill -0 \"$trainer\" 2>/dev/null || break\n\
             done\n\
             # 138: stopped before the limit, with everything saved. SLURM itself queues preempted jobs again.\n\
             if [ \"$code\" = 138 ]; then\n    \
                 exec scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"\n\
             fi\n\
             exit \"$code\"\n",
            last = tasks.len(),
            ids = tasks.iter().map(|task| quoted(&task.id)).collect::<Vec<_>>().join(" "),
            scripts = quoted(&format!("{folder}/tasks"))
        ))
    }
}

impl Task {
    /// What a task runs. A run that was started before is resumed.
    fn script(&self) -> String {
        let command: Vec<_> = self.command.iter().map(|word| quoted(word)).collect();
        let folder = quoted(&self.folder);
        format!(
            "resume=\n\
             if [ -e {folder}/DONE ]; then exit 0; fi\n\
             if [ -e {folder}/config.toml ]; then resume=--resume; fi\n\
             # The process that SLURM has replaced may have left its lock, on a machine that failed.\n\
             if [ \"${{SLURM_RESTART_COUNT:-0}}\" -gt 0 ]; then rm -f {folder}/.lock; fi\n\
             # In braces, so that the shell has read all of it: submitting again rewrites this file.\n\
             {{ {} $resume; exit; }}\n",
            command.join(" ")
        )
    }
}

fn text(word: std::ffi::OsString) -> Result<String> {
    word.into_string()
        .map_err(|word| anyhow::anyhow!("{} is not UTF-8; SLURM needs another path", word.to_string_lossy()))
}
