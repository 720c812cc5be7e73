//! Inputs and actions of the control plane's machine, by name.

use engine::{
    cluster::{Action, Input, Notice, Store},
    podeni::Call,
};

use crate::report::Report;

/// Every input of the machine that a life can bring.
pub(crate) const INPUTS: [&str; 18] = [
    "Pod",
    "Pod gone",
    "Node",
    "Namespace",
    "Record",
    "Record gone",
    "Networking",
    "Complete",
    "Written",
    "Write failed",
    "Resolved",
    "Called ok",
    "Called failed",
    "Looked ok",
    "Looked failed",
    "VSwitches",
    "Listed",
    "Tick",
];

/// Every action of the machine.
pub(crate) const ACTIONS: [&str; 13] = [
    "Create record",
    "Write record",
    "Delete record",
    "Let record go",
    "Resolve",
    "CreateEni",
    "AttachEni",
    "DetachEni",
    "DeleteEni",
    "Look",
    "DescribeVSwitches",
    "ListEnis",
    "Notice",
];

pub(super) fn input(report: &mut Report, input: &Input) {
    let name = match input {
        Input::Pod(_, Some(_)) => "Pod",
        Input::Pod(_, None) => "Pod gone",
        Input::Node(..) => "Node",
        Input::Namespace(..) => "Namespace",
        Input::Record(_, Some(_)) => "Record",
        Input::Record(_, None) => "Record gone",
        Input::Unreadable(..) => "Unreadable",
        Input::Networking(..) => "Networking",
        Input::Complete => "Complete",
        Input::Written(_, Ok(_)) => "Written",
        Input::Written(_, Err(_)) => "Write failed",
        Input::Resolved(..) => "Resolved",
        Input::Called(_, Ok(_)) => "Called ok",
        Input::Called(_, Err(_)) => "Called failed",
        Input::Looked(_, Ok(_)) => "Looked ok",
        Input::Looked(_, Err(_)) => "Looked failed",
        Input::VSwitches(..) => "VSwitches",
        Input::Listed(..) => "Listed",
        Input::Configured(_) => "Configured",
        Input::Tick => "Tick",
    };
    *report.inputs.entry(name).or_default() += 1;
}

pub(super) fn action(report: &mut Report, action: &Action) {
    let name = match action {
        Action::Store(_, Store::Create(_)) => "Create record",
        Action::Store(_, Store::Write(_)) => "Write record",
        Action::Store(_, Store::Delete(_)) => "Delete record",
        Action::Store(_, Store::LetGo(_)) => "Let record go",
        Action::Resolve(..) => "Resolve",
        Action::Call(_, Call::Create(_)) => "CreateEni",
        Action::Call(_, Call::Attach { .. }) => "AttachEni",
        Action::Call(_, Call::Detach { .. }) => "DetachEni",
        Action::Call(_, Call::Delete(_)) => "DeleteEni",
        Action::Call(_, Call::Look(_)) | Action::Look(..) => "Look",
        Action::DescribeVSwitches(..) => "DescribeVSwitches",
        Action::ListEnis(_) => "ListEnis",
        Action::Notice(notice) => {
            said(report, notice);
            "Notice"
        }
    };
    *report.actions.entry(name).or_default() += 1;
}

fn said(report: &mut Report, notice: &Notice) {
    let text = format!("{notice:?}");
    let name = text.split('(').next().unwrap_or_default();
    *report.notices.entry(name.to_owned()).or_default() += 1;
}
