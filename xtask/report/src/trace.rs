//! Writes spans of time as trace events, which ui.perfetto.dev and chrome://tracing open ("Trace Event Format").

use serde_json::{Value, json};

use crate::timings::{Span, What, lanes};

/// The events: an array in JSON. A kind of span is a process there, what ran side by side are its threads.
pub fn render(spans: &[Span]) -> String {
    let mut events = Vec::new();
    for (pid, (what, name)) in ROWS.into_iter().enumerate() {
        let lanes = lanes(spans.iter().filter(|span| span.what == what));
        if !lanes.is_empty() {
            events.push(json!({ "name": "process_name", "ph": "M", "pid": pid, "args": { "name": name } }));
        }
        for (tid, lane) in lanes.into_iter().enumerate() {
            events.extend(lane.into_iter().map(|span| event(span, name, pid, tid)));
        }
    }
    Value::from(events).to_string()
}

/// Kinds of spans, and what they are called for people.
const ROWS: [(What, &str); 8] = [
    (What::Step, "Drydock"),
    (What::Evaluator, "evaluators"),
    (What::Evaluation, "evaluations"),
    (What::Realiser, "nix build"),
    (What::Build, "builds"),
    (What::Download, "copies"),
    (What::Wait, "waits"),
    (What::Test, "VM tests"),
];

fn event(span: &Span, category: &str, pid: usize, tid: usize) -> Value {
    let micros = |seconds: f64| (seconds * 1e6).round();
    let mut args = json!({ "ok": span.ok });
    let words = [("path", &span.key), ("machine", &span.machine)];
    for (key, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
        args[key] = json!(word);
    }
    if let Some(memory) = span.memory {
        args["memory"] = json!(memory);
    }
    json!({
        "name": span.name, "cat": category, "ph": "X", "ts": micros(span.start), "dur": micros(span.seconds()),
        "pid": pid, "tid": tid, "args": args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::span;

    #[test]
    fn spans_become_events_and_those_side_by_side_lie_in_threads_of_their_own() {
        let spans = [
            span(What::Build, "a", 1.0, 2.5),
            Span { ok: false, machine: "ssh://arm".into(), ..span(What::Build, "b", 2.0, 3.0) },
            span(What::Step, "read", 0.0, 0.001),
        ];
        let events: Vec<Value> = serde_json::from_str(&render(&spans)).unwrap();
        let spans: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(events.len(), 3 + 2, "each process has a name");
        let expected = json!({
            "name": "b", "cat": "builds", "ph": "X", "ts": 2e6, "dur": 1e6, "pid": 4, "tid": 1,
            "args": { "ok": false, "path": "/s/b.drv", "machine": "ssh://arm" },
        });
        assert_eq!(*spans[2], expected);
        assert_eq!((&spans[1]["tid"], &spans[0]["dur"]), (&json!(0), &json!(1000.0)));
    }
}
