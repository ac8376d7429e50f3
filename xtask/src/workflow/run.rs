//! A workflow and an event in, the result of every job out: jobs in the order of their needs, matrices
//! expanded, each job in a folder of its own that is thrown away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};

use super::{
    actions::{self, Place},
    expression::{Scope, Status, shown},
};
use crate::process::{Cancel, End, Invocation};

/// What GitHub limits: bytes of one step's summary, and of one job's outputs as UTF-16.
const SUMMARY_LIMIT: u64 = 1 << 20;
const OUTPUT_LIMIT: usize = 1 << 20;

/// What stands around the workflow.
pub struct Surroundings<'a> {
    /// The contexts that are the same for every job: `github`, `vars`, `runner`.
    pub contexts: Map<String, Value>,
    /// The folder for clones, artifacts and summaries.
    pub root: &'a Utf8Path,
    pub repository: &'a Utf8Path,
    pub commit: &'a str,
    /// Environment variables of every step, beyond those of the workflow.
    pub env: Vec<(String, String)>,
    /// Jobs that are not run here; nothing may depend on their outputs.
    pub left_out: &'a [&'a str],
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct JobResult {
    /// `success`, `failure` or `skipped`.
    pub result: &'static str,
    pub outputs: BTreeMap<String, String>,
}

/// Runs every job. `say` gets the job's name and a line of its output.
pub fn run(
    workflow: &Value,
    around: &Surroundings<'_>,
    cancel: &Cancel,
    say: &mut dyn FnMut(&str, &str),
) -> Result<BTreeMap<String, JobResult>> {
    let jobs = workflow.get("jobs").and_then(Value::as_object).context("the workflow has no jobs")?;
    let mut results: BTreeMap<String, JobResult> = BTreeMap::new();
    let wanted = || jobs.iter().filter(|(name, _)| !around.left_out.contains(&name.as_str()));
    while let Some((name, job)) = wanted().find(|(name, job)| {
        !results.contains_key(*name)
            && needs(job).iter().all(|n| results.contains_key(n) || around.left_out.contains(&n.as_str()))
    }) {
        if cancel.is_set() {
            break;
        }
        let runner = JobRunner { workflow, name, job, around, results: &results };
        let result = runner.run(cancel, say).with_context(|| format!("job `{name}`"))?;
        say(name, &format!("=> {}", result.result));
        results.insert(name.clone(), result);
    }
    let waiting: Vec<&String> = wanted().map(|(name, _)| name).filter(|name| !results.contains_key(*name)).collect();
    if !waiting.is_empty() && !cancel.is_set() {
        bail!("the jobs {waiting:?} need each other or a job that does not exist");
    }
    Ok(results)
}

fn needs(job: &Value) -> Vec<String> {
    match job.get("needs") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().map(shown).collect(),
        _ => vec![],
    }
}

struct JobRunner<'a> {
    workflow: &'a Value,
    name: &'a str,
    job: &'a Value,
    around: &'a Surroundings<'a>,
    results: &'a BTreeMap<String, JobResult>,
}

impl JobRunner<'_> {
    fn run(&self, cancel: &Cancel, say: &mut dyn FnMut(&str, &str)) -> Result<JobResult> {
        let scope = self.scope(&Value::Null)?;
        let condition = self.job.get("if").map_or_else(|| "success()".to_owned(), shown);
        if !scope.condition(&condition)? {
            return Ok(JobResult { result: "skipped", outputs: BTreeMap::new() });
        }
        let combinations = self.combinations(&scope)?;
        let mut all = JobResult { result: "success", outputs: BTreeMap::new() };
        for combination in combinations {
            let label = match self.job.get("name") {
                Some(name) => self.scope(&combination)?.text(&shown(name))?,
                None => self.name.to_owned(),
            };
            let one = self.combination(&combination, &label, cancel, say)?;
            if one.result != "success" {
                all.result = one.result;
            }
            all.outputs.extend(one.outputs);
        }
        let size: usize = all.outputs.values().map(|value| value.encode_utf16().count() * 2).sum();
        if size > OUTPUT_LIMIT {
            bail!("the outputs have {size} bytes, more than GitHub takes");
        }
        Ok(all)
    }

    /// Every entry of `strategy.matrix.include`, or one run without a matrix.
    fn combinations(&self, scope: &Scope) -> Result<Vec<Value>> {
        let Some(matrix) = self.job.get("strategy").and_then(|strategy| strategy.get("matrix")) else {
            return Ok(vec![Value::Null]);
        };
        let matrix = match matrix {
            Value::String(text) => scope.value(text)?,
            other => other.clone(),
        };
        let entries =
            matrix.get("include").and_then(Value::as_array).context("a matrix has `include` and nothing else")?;
        if matrix.as_object().is_some_and(|map| map.len() != 1) {
            bail!("a matrix has `include` and nothing else here");
        }
        match entries.len() {
            0 => bail!("the matrix is empty, which GitHub calls an error: the job needs an `if`"),
            1..=256 => Ok(entries.clone()),
            n => bail!("the matrix has {n} entries, and GitHub takes 256"),
        }
    }

    fn combination(
        &self,
        matrix: &Value,
        label: &str,
        cancel: &Cancel,
        say: &mut dyn FnMut(&str, &str),
    ) -> Result<JobResult> {
        let mut scope = self.scope(matrix)?;
        scope.status = Status::Success;
        self.check_runner(&scope)?;
        let place = self.place()?;
        let mut env = self.around.env.clone();
        for level in [self.workflow, self.job] {
            env.extend(env_of(level, &scope)?);
        }
        let steps = self.job.get("steps").and_then(Value::as_array).context("the job has no steps")?;
        let minutes = self.job.get("timeout-minutes").and_then(Value::as_u64).context("the job has no time limit")?;
        let limit = Duration::from_secs(minutes * 60);
        for (n, step) in steps.iter().enumerate() {
            let title = step.get("name").or(step.get("uses")).map_or_else(|| format!("step {}", n + 1), shown);
            let condition = step.get("if").map_or_else(|| "success()".to_owned(), shown);
            if !scope.condition(&condition)? {
                say(label, &format!("-- {title}: skipped"));
                continue;
            }
            say(label, &format!("-- {title}"));
            let run = StepRun { step, env: &env, scope: &scope, place: &place, limit };
            let done = run.run(self.around.root, cancel, &mut |line| say(label, line));
            let (outcome, outputs) = match done {
                Ok(outputs) => ("success", outputs),
                Err(error) => {
                    say(label, &format!("error: {error:#}"));
                    scope.status = Status::Failure;
                    ("failure", BTreeMap::new())
                }
            };
            if let Some(id) = step.get("id").map(shown) {
                scope.contexts["steps"][id] = json!({ "outputs": outputs, "outcome": outcome, "conclusion": outcome });
            }
        }
        let mut result = JobResult { result: "success", outputs: BTreeMap::new() };
        for (name, text) in self.job.get("outputs").and_then(Value::as_object).into_iter().flatten() {
            result.outputs.insert(name.clone(), scope.text(&shown(text))?);
        }
        if scope.status != Status::Success {
            result.result = "failure";
        }
        fs::remove_dir_all(&place.workspace).with_context(|| format!("cannot remove {}", place.workspace))?;
        Ok(result)
    }

    /// The contexts of the job and whether what it needs succeeded.
    fn scope(&self, matrix: &Value) -> Result<Scope> {
        let mut contexts = self.around.contexts.clone();
        let mut needed = Map::new();
        let mut status = Status::Success;
        for name in needs(self.job) {
            let Some(result) = self.results.get(&name) else { continue };
            match result.result {
                "success" => {}
                "skipped" if status == Status::Success => status = Status::Skipped,
                "skipped" => {}
                _ => status = Status::Failure,
            }
            needed.insert(name, json!({ "result": result.result, "outputs": result.outputs }));
        }
        contexts.insert("needs".into(), Value::Object(needed));
        contexts.insert("matrix".into(), matrix.clone());
        contexts.insert("steps".into(), json!({}));
        Ok(Scope { contexts: Value::Object(contexts), status })
    }

    fn check_runner(&self, scope: &Scope) -> Result<()> {
        const KNOWN: [&str; 4] = ["ubuntu-24.04", "ubuntu-24.04-arm", "ubuntu-26.04", "ubuntu-26.04-arm"];
        let label = scope.text(&self.job.get("runs-on").map(shown).unwrap_or_default())?;
        match KNOWN.contains(&label.as_str()) {
            true => Ok(()),
            false => bail!("`runs-on: {label}` is no label of a hosted Linux runner"),
        }
    }

    fn place(&self) -> Result<Place> {
        let workspace = self.around.root.join("work");
        if workspace.exists() {
            fs::remove_dir_all(&workspace).with_context(|| format!("cannot remove {workspace}"))?;
        }
        fs::create_dir_all(&workspace).with_context(|| format!("cannot create {workspace}"))?;
        Ok(Place {
            repository: self.around.repository.to_owned(),
            commit: self.around.commit.to_owned(),
            artifacts: self.around.root.join("artifacts"),
            workspace,
        })
    }
}

fn env_of(level: &Value, scope: &Scope) -> Result<Vec<(String, String)>> {
    let env = level.get("env").and_then(Value::as_object).into_iter().flatten();
    env.map(|(key, value)| Ok((key.clone(), scope.text(&shown(value))?))).collect()
}

struct StepRun<'a> {
    step: &'a Value,
    env: &'a [(String, String)],
    scope: &'a Scope,
    place: &'a Place,
    limit: Duration,
}

impl StepRun<'_> {
    /// Carries out the step and returns its outputs; an error is its failure.
    fn run(&self, root: &Utf8Path, cancel: &Cancel, say: &mut dyn FnMut(&str)) -> Result<BTreeMap<String, String>> {
        const KNOWN: [&str; 7] = ["name", "id", "if", "uses", "with", "env", "run"];
        let keys: BTreeSet<&str> = self.step.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        if let Some(unknown) = keys.iter().find(|key| !KNOWN.contains(*key)) {
            bail!("the key `{unknown}` of a step is not emulated");
        }
        if let Some(uses) = self.step.get("uses") {
            let mut with = BTreeMap::new();
            for (name, value) in self.step.get("with").and_then(Value::as_object).into_iter().flatten() {
                // The keys of caches name files of the repository; caches are passed over anyway.
                with.insert(name.clone(), self.scope.text(&shown(value)).unwrap_or_else(|_| shown(value)));
            }
            say(&actions::carry_out(&shown(uses), &with, self.place, cancel)?);
            return Ok(BTreeMap::new());
        }
        let script = shown(self.step.get("run").context("the step has neither `uses` nor `run`")?);
        if script.contains("${{") {
            bail!("`{script}` has data interpolated into a script; pass it through `env`");
        }
        self.script(&script, root, cancel, say)
    }

    fn script(
        &self,
        script: &str,
        root: &Utf8Path,
        cancel: &Cancel,
        say: &mut dyn FnMut(&str),
    ) -> Result<BTreeMap<String, String>> {
        let file = |name: &str| -> Result<Utf8PathBuf> {
            let path = root.join(name);
            fs::write(&path, "").with_context(|| format!("cannot write {path}"))?;
            Ok(path)
        };
        let (output, summary, text) = (file("step-output")?, file("step-summary")?, file("step-script")?);
        fs::write(&text, script).with_context(|| format!("cannot write {text}"))?;
        // What GitHub runs where a step names no shell.
        let mut call = Invocation::new(["bash", "-e", text.as_str()]).dir(&self.place.workspace).timeout(self.limit);
        let own = env_of(self.step, self.scope)?;
        for (key, value) in self.env.iter().chain(&own) {
            call = call.env(key, value);
        }
        call = call.env("GITHUB_OUTPUT", output.as_str()).env("GITHUB_STEP_SUMMARY", summary.as_str());
        call = call.env("GITHUB_WORKSPACE", self.place.workspace.as_str());
        say(&format!("$ {}", script.trim_end()));
        let end = call.stream(cancel, &mut |_, line| say(line))?;
        let written = fs::metadata(&summary).with_context(|| format!("cannot read {summary}"))?.len();
        if written > SUMMARY_LIMIT {
            bail!("the step summary has {written} bytes, and GitHub shows none above {SUMMARY_LIMIT}");
        }
        let all = root.join("summary.md");
        let before = fs::read_to_string(&all).unwrap_or_default();
        let now = fs::read_to_string(&summary).with_context(|| format!("cannot read {summary}"))?;
        fs::write(&all, before + &now).with_context(|| format!("cannot write {all}"))?;
        match end {
            End::Exited(0) => outputs(&fs::read_to_string(&output).with_context(|| format!("cannot read {output}"))?),
            end => bail!("the step ended with {end}"),
        }
    }
}

/// Reads what a step wrote to `GITHUB_OUTPUT`: lines `name=value`.
fn outputs(text: &str) -> Result<BTreeMap<String, String>> {
    let split = |line: &str| {
        let (name, value) = line.split_once('=').with_context(|| format!("`{line}` sets no output"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    text.lines().map(split).collect()
}
