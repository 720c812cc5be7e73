//! Makes calls, keeps every answer whole, and compares each with what the lab's region answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cloud::{Call, Client, CloudError, Deadline, DecodeError, RequestError, rpc};
use model::{EniId, FaultClass};
use serde_json::{Value, json};

use super::shape::{self, Shapes};
use crate::{agent::chain, text::foreign};

/// What one call may take; the client itself bounds an exchange at 20 s.
const CALL: Duration = Duration::from_secs(20);

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As in the lab.
    Same,
    /// As in the lab, and more fields than it has.
    More,
    /// Otherwise than in the lab.
    Differs,
    /// It was not done, or has no answer.
    NotDone,
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::More => "same, and more",
            Verdict::Differs => "DIFFERS",
            Verdict::NotDone => "not done",
        }
    }
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) step: &'static str,
    pub(super) call: &'static str,
    pub(super) verdict: Verdict,
    pub(super) milliseconds: Option<u128>,
    pub(super) detail: Vec<String>,
}

/// A refusal the lab gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) class: FaultClass,
}

/// A check under way.
pub(super) struct Session {
    pub(super) client: Client,
    /// What the lab answers.
    lab: Shapes,
    /// What the cloud answered.
    pub(super) seen: Shapes,
    pub(super) lines: Vec<Line>,
    /// Step, call and answer, for fixtures.
    pub(super) records: Vec<Value>,
    /// ENIs made, which must be gone in the end.
    pub(super) made: Vec<EniId>,
    stop: Arc<AtomicBool>,
}

/// A call that keeps its answer's document beside what was decoded.
struct Whole<'a, C>(&'a C);

impl<C: Call> Call for Whole<'_, C> {
    const ACTION: &'static str = C::ACTION;
    const PRODUCT: rpc::Product = C::PRODUCT;
    type Output = (Value, Result<C::Output, DecodeError>);

    fn check(&self) -> Result<(), RequestError> {
        self.0.check()
    }

    fn params(&self) -> rpc::Params {
        self.0.params()
    }

    fn decode(&self, body: &[u8]) -> Result<Self::Output, DecodeError> {
        let document = serde_json::from_slice(body).map_err(DecodeError::Json)?;
        Ok((document, self.0.decode(body)))
    }
}

impl Session {
    pub(super) fn new(client: Client, lab: Shapes, stop: Arc<AtomicBool>) -> Self {
        Self {
            client,
            lab,
            seen: Shapes::new(),
            lines: Vec::new(),
            records: Vec::new(),
            made: Vec::new(),
            stop,
        }
    }

    /// Whether somebody asked to end: then nothing new is begun, and what was made is removed.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Makes `call`, which should succeed.
    pub(super) async fn ok<C: Call>(&mut self, step: &'static str, call: &C) -> Option<C::Output> {
        self.ok_as(step, C::ACTION, call).await
    }

    /// The same for a call whose answer has another shape in another state: `shape` names it.
    pub(super) async fn ok_as<C: Call>(
        &mut self,
        step: &'static str,
        shape: &'static str,
        call: &C,
    ) -> Option<C::Output> {
        if self.stopped() {
            self.note::<C>(step, Verdict::NotDone, None, vec!["stopped".into()]);
            return None;
        }
        match self.client.call(&Whole(call), Deadline::within(CALL)).await {
            Err(error) => {
                self.refusal_record::<C>(step, &error);
                self.note::<C>(step, unexpected(&error), None, vec![chain(&error)]);
                None
            }
            Ok(answer) => {
                let (document, decoded) = answer.value;
                let took = Some(answer.latency.as_millis());
                let (verdict, mut detail) = self.compared::<C>(shape, step, &document);
                match decoded {
                    Ok(value) => {
                        self.note::<C>(step, verdict, took, detail);
                        Some(value)
                    }
                    Err(error) => {
                        detail.insert(0, format!("the agent cannot read it: {}", chain(&error)));
                        self.note::<C>(step, Verdict::Differs, took, detail);
                        None
                    }
                }
            }
        }
    }

    /// Makes `call`, which must be refused as `expected`. What it returns if it is not refused is
    /// given back, so that nothing it made is lost.
    pub(super) async fn refused<C: Call>(
        &mut self,
        step: &'static str,
        call: &C,
        expected: Refusal,
    ) -> Option<C::Output> {
        if self.stopped() {
            self.note::<C>(step, Verdict::NotDone, None, vec!["stopped".into()]);
            return None;
        }
        match self.client.call(&Whole(call), Deadline::within(CALL)).await {
            Ok(answer) => {
                let (document, decoded) = answer.value;
                self.record(step, C::ACTION, &document);
                let detail = format!("was carried out; the lab refuses it with {}", expected.code);
                let took = Some(answer.latency.as_millis());
                self.note::<C>(step, Verdict::Differs, took, vec![detail]);
                decoded.ok()
            }
            Err(error) => {
                self.refusal_record::<C>(step, &error);
                let (verdict, detail) = judged(&error, expected);
                self.note::<C>(step, verdict, None, detail);
                None
            }
        }
    }

    /// A call made for the check's own needs, in no line of the table.
    pub(super) async fn quiet<C: Call>(&self, call: &C) -> Result<C::Output, CloudError> {
        let answer = self.client.call(call, Deadline::within(CALL)).await?;
        Ok(answer.value)
    }

    /// A line about something the answers said together.
    pub(super) fn fact(
        &mut self,
        step: &'static str,
        call: &'static str,
        holds: bool,
        detail: impl Into<String>,
    ) {
        let (verdict, detail) = match (holds, self.stopped()) {
            (true, _) => (Verdict::Same, Vec::new()),
            (false, true) => (Verdict::NotDone, vec!["stopped".into()]),
            (false, false) => (Verdict::Differs, vec![detail.into()]),
        };
        self.lines.push(Line {
            step,
            call,
            verdict,
            milliseconds: None,
            detail,
        });
    }

    fn note<C: Call>(
        &mut self,
        step: &'static str,
        verdict: Verdict,
        milliseconds: Option<u128>,
        detail: Vec<String>,
    ) {
        // Why not, at once: what is tried again takes minutes until the page.
        let why = match verdict {
            Verdict::Same | Verdict::More => None,
            Verdict::Differs | Verdict::NotDone => detail.first(),
        };
        let why = why.map_or_else(String::new, |why| format!(": {}", foreign(why)));
        eprintln!("  {step}: {}{why}", verdict.word());
        self.lines.push(Line {
            step,
            call: C::ACTION,
            verdict,
            milliseconds,
            detail,
        });
    }

    fn compared<C: Call>(
        &mut self,
        name: &'static str,
        step: &'static str,
        document: &Value,
    ) -> (Verdict, Vec<String>) {
        self.record(step, C::ACTION, document);
        let shape = shape::of(document);
        let known = self.seen.entry(name.to_owned()).or_default();
        for (path, kind) in &shape {
            known.entry(path.clone()).or_insert_with(|| kind.clone());
        }
        let Some(lab) = self.lab.get(name) else {
            return (
                Verdict::Differs,
                vec!["the lab's answer is not known".into()],
            );
        };
        let difference = shape::compare(lab, &shape);
        let verdict = match (difference.wrong.is_empty(), difference.added.is_empty()) {
            (true, true) => Verdict::Same,
            (true, false) => Verdict::More,
            (false, _) => Verdict::Differs,
        };
        (verdict, difference.words())
    }

    fn record(&mut self, step: &str, action: &str, document: &Value) {
        self.records
            .push(json!({ "Step": step, "Action": action, "HttpStatus": 200, "Answer": document }));
    }

    fn refusal_record<C: Call>(&mut self, step: &str, error: &CloudError) {
        if let CloudError::Refused {
            code,
            http_status,
            class,
            ..
        } = error
        {
            let class = class.to_string();
            self.records.push(
                json!({ "Step": step, "Action": C::ACTION, "HttpStatus": http_status,
                "Answer": { "Code": code, "Class": class } }),
            );
        }
    }
}

/// What a failure means where success was expected: a definite refusal differs from the lab, anything
/// else says nothing about it.
fn unexpected(error: &CloudError) -> Verdict {
    match error.class() {
        FaultClass::Unknown | FaultClass::Throttled | FaultClass::Denied => Verdict::NotDone,
        _ => Verdict::Differs,
    }
}

fn judged(error: &CloudError, expected: Refusal) -> (Verdict, Vec<String>) {
    let found = error.code().unwrap_or("no code");
    if found == expected.code {
        return (Verdict::Same, Vec::new());
    }
    if error.class() == expected.class {
        let detail = format!(
            "code {found}, in the lab {}; the agent treats both alike",
            expected.code
        );
        return (Verdict::More, vec![detail]);
    }
    let detail = format!(
        "{}; the lab refuses it with {} ({})",
        chain(error),
        expected.code,
        expected.class
    );
    (unexpected_refusal(error), vec![detail])
}

fn unexpected_refusal(error: &CloudError) -> Verdict {
    match error.class() {
        FaultClass::Unknown | FaultClass::Throttled => Verdict::NotDone,
        _ => Verdict::Differs,
    }
}
