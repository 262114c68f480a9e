//! The state of a Job, from its conditions and the termination messages of its Pods.
//!
//! A report is an unverified claim: any user who may create Pods in the namespace can make one that
//! looks like the Job's own. So the state only selects the next step.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::ResourceExt;

use super::{packing_run::JobState, resources::CONTAINER};
use crate::core::{
    job::{JobFailure, JobReport, JobStep, JobSuccess},
    reason::Reason,
};

/// The state of a Job, from it and its Pods. `refused` is the cluster's message when it did not let
/// the Job create a Pod.
pub(super) fn job_state(
    job: Option<&Job>,
    pods: &[Pod],
    refused: Option<&str>,
    step: JobStep,
) -> JobState {
    let Some(job) = job else {
        return JobState::Absent;
    };
    let pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| is_owned_by_job(pod, job))
        .collect();
    let ended: Vec<TerminatedContainer> = pods
        .iter()
        .filter_map(|pod| TerminatedContainer::from_pod(pod))
        .collect();
    if let Some(state) = find_reported_success(&ended, step) {
        return state;
    }
    match terminal_condition(job) {
        Some(over) => JobState::Failed {
            failure: job_failure(job, &ended, &over, step),
            at: over.at,
        },
        None if pods.is_empty() => refused.map_or(JobState::Running { problem: None }, |why| {
            JobState::PodDenied {
                why: why.to_owned(),
            }
        }),
        None => JobState::Running {
            problem: pods.iter().find_map(|pod| pod_start_problem(pod)),
        },
    }
}

fn is_owned_by_job(pod: &Pod, job: &Job) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "Job" && Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// A terminated container.
struct TerminatedContainer<'a> {
    pod: String,
    terminated: &'a ContainerStateTerminated,
}

impl<'a> TerminatedContainer<'a> {
    fn from_pod(pod: &'a Pod) -> Option<Self> {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let status = statuses.iter().find(|status| status.name == CONTAINER)?;
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        Some(Self {
            pod: pod.name_any(),
            terminated,
        })
    }

    fn parse_report(&self) -> Option<JobReport> {
        JobReport::parse(self.terminated.message.as_deref()?).ok()
    }

    fn finished_at(&self) -> Timestamp {
        self.terminated
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
}

/// The report of Pods that succeeded. If two differ, neither counts.
fn find_reported_success(ended: &[TerminatedContainer<'_>], step: JobStep) -> Option<JobState> {
    let well = ended.iter().filter(|ended| ended.terminated.exit_code == 0);
    let reports: Vec<(JobSuccess, Timestamp)> = well
        .filter_map(|ended| match ended.parse_report()? {
            JobReport {
                step: said,
                result: Ok(success),
            } if said == step => Some((success, ended.finished_at())),
            _ => None,
        })
        .collect();
    let (first, at) = reports.first()?;
    if let Some((other, at)) = reports
        .iter()
        .find(|(other, _)| other.digest != first.digest)
    {
        let message = format!(
            "two Pods of one Job report different bundles, {} and {}; somebody else made one of \
                them",
            first.digest, other.digest
        );
        return Some(JobState::Failed {
            failure: JobFailure::new(Reason::LockMismatch, &message),
            at: *at,
        });
    }
    Some(JobState::Succeeded {
        report: first.clone(),
        at: *at,
    })
}

/// The terminal condition of a Job.
struct JobTerminalCondition {
    reason: String,
    message: String,
    at: Timestamp,
}

fn terminal_condition(job: &Job) -> Option<JobTerminalCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ends = |type_: &str| ["Failed", "FailureTarget", "Complete"].contains(&type_);
    let condition = conditions
        .iter()
        .find(|condition| ends(&condition.type_) && condition.status == "True")?;
    Some(JobTerminalCondition {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        at: condition
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}

/// Why it failed: the report of its last Pod, or else the cluster's message.
fn job_failure(
    job: &Job,
    ended: &[TerminatedContainer<'_>],
    over: &JobTerminalCondition,
    step: JobStep,
) -> JobFailure {
    if over.reason == "DeadlineExceeded" {
        let limit = match step {
            JobStep::Pack => "spec.timeout",
            JobStep::Sign => {
                "spec.timeout, or than sign Jobs may (chart value jobs.sign.timeoutSeconds)"
            }
        };
        return JobFailure::new(
            Reason::DeadlineExceeded,
            &format!("the Job took longer than {limit}; raise it, or see what its Pod waited for"),
        );
    }
    let last = ended
        .iter()
        .filter(|ended| ended.terminated.exit_code != 0)
        .max_by_key(|ended| ended.finished_at());
    match last.map(|last| (last, last.parse_report())) {
        Some((
            _,
            Some(JobReport {
                step: said,
                result: Err(failure),
            }),
        )) if said == step => failure,
        Some((last, _)) => container_failure(last, step),
        None => JobFailure::new(
            Reason::JobFailed,
            &format!(
                "Job {} ended without a report: {} {}",
                job.name_any(),
                over.reason,
                over.message
            ),
        ),
    }
}

fn container_failure(last: &TerminatedContainer<'_>, step: JobStep) -> JobFailure {
    let ContainerStateTerminated {
        exit_code, reason, ..
    } = last.terminated;
    let reason = reason.as_deref().unwrap_or("no reason");
    let advice = match (reason, step) {
        ("OOMKilled", JobStep::Pack) => "; raise spec.packPod.resources.limits.memory",
        _ => "; its log may say more",
    };
    JobFailure::new(
        Reason::JobFailed,
        &format!(
            "Pod {} ended with code {exit_code} ({reason}) and without a report{advice}",
            last.pod
        ),
    )
}

/// What prevents a Pod from starting.
fn pod_start_problem(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(format!(
            "Pod {} waits for a node: {}",
            pod.name_any(),
            condition.message.as_deref().unwrap_or_default()
        ));
    }
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let ordinary =
        reason.is_empty() || reason == "ContainerCreating" || reason == "PodInitializing";
    (!ordinary).then(|| {
        format!(
            "Pod {} waits: {reason} {}",
            pod.name_any(),
            waiting.message.as_deref().unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests;
