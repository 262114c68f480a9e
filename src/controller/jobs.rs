//! What became of a Job: read from its conditions and from the last words of its Pods.
//!
//! A report is a claim. Anybody who may create Pods in the namespace can make one that looks like
//! the Job's own, so nothing is decided here but what to look at next.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::ResourceExt;

use super::{build::CONTAINER, step::JobState};
use crate::core::{
    class::Reason,
    job::{Failure, JobReport, Step, Success},
};

/// The state of a Job, from it and its Pods. `refused` is what the cluster said when it did not let
/// the Job make a Pod.
pub(super) fn state(
    job: Option<&Job>,
    pods: &[Pod],
    refused: Option<&str>,
    step: Step,
) -> JobState {
    let Some(job) = job else {
        return JobState::Absent;
    };
    let pods: Vec<&Pod> = pods.iter().filter(|pod| belongs(pod, job)).collect();
    let ended: Vec<Ended> = pods.iter().filter_map(|pod| Ended::of(pod)).collect();
    if let Some(state) = success(&ended, step) {
        return state;
    }
    match over(job) {
        Some(over) => JobState::Failed {
            failure: failure(job, &ended, &over, step),
            at: over.at,
        },
        None if pods.is_empty() => refused.map_or(JobState::Running { trouble: None }, |why| {
            JobState::Refused {
                why: why.to_owned(),
            }
        }),
        None => JobState::Running {
            trouble: pods.iter().find_map(|pod| trouble(pod)),
        },
    }
}

fn belongs(pod: &Pod, job: &Job) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "Job" && Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// A container that ended.
struct Ended<'a> {
    pod: String,
    terminated: &'a ContainerStateTerminated,
}

impl<'a> Ended<'a> {
    fn of(pod: &'a Pod) -> Option<Self> {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let status = statuses.iter().find(|status| status.name == CONTAINER)?;
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        Some(Self {
            pod: pod.name_any(),
            terminated,
        })
    }

    fn report(&self) -> Option<JobReport> {
        JobReport::parse(self.terminated.message.as_deref()?).ok()
    }

    fn at(&self) -> Timestamp {
        self.terminated
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
}

/// What is reported by Pods that ended well. Two that differ cannot both be true.
fn success(ended: &[Ended<'_>], step: Step) -> Option<JobState> {
    let well = ended.iter().filter(|ended| ended.terminated.exit_code == 0);
    let reports: Vec<(Success, Timestamp)> = well
        .filter_map(|ended| match ended.report()? {
            JobReport {
                step: said,
                result: Ok(success),
            } if said == step => Some((success, ended.at())),
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
            failure: Failure::new(Reason::LockMismatch, &message),
            at: *at,
        });
    }
    Some(JobState::Succeeded {
        report: first.clone(),
        at: *at,
    })
}

/// The end of a Job.
struct Over {
    reason: String,
    message: String,
    at: Timestamp,
}

fn over(job: &Job) -> Option<Over> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ends = |type_: &str| ["Failed", "FailureTarget", "Complete"].contains(&type_);
    let condition = conditions
        .iter()
        .find(|condition| ends(&condition.type_) && condition.status == "True")?;
    Some(Over {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        at: condition
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}

/// Why it failed: what its last Pod said, else what the cluster says.
fn failure(job: &Job, ended: &[Ended<'_>], over: &Over, step: Step) -> Failure {
    if over.reason == "DeadlineExceeded" {
        let limit = match step {
            Step::Pack => "spec.timeout",
            Step::Sign => {
                "spec.timeout, or than sign Jobs may (chart value jobs.sign.timeoutSeconds)"
            }
        };
        return Failure::new(
            Reason::DeadlineExceeded,
            &format!("the Job took longer than {limit}; raise it, or see what its Pod waited for"),
        );
    }
    let last = ended
        .iter()
        .filter(|ended| ended.terminated.exit_code != 0)
        .max_by_key(|ended| ended.at());
    match last.map(|last| (last, last.report())) {
        Some((
            _,
            Some(JobReport {
                step: said,
                result: Err(failure),
            }),
        )) if said == step => failure,
        Some((last, _)) => died(last, step),
        None => Failure::new(
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

fn died(last: &Ended<'_>, step: Step) -> Failure {
    let ContainerStateTerminated {
        exit_code, reason, ..
    } = last.terminated;
    let reason = reason.as_deref().unwrap_or("no reason");
    let advice = match (reason, step) {
        ("OOMKilled", Step::Pack) => "; raise spec.packPod.resources.limits.memory",
        _ => "; its log may say more",
    };
    Failure::new(
        Reason::JobFailed,
        &format!(
            "Pod {} ended with code {exit_code} ({reason}) and without a report{advice}",
            last.pod
        ),
    )
}

/// What keeps a Pod from starting.
fn trouble(pod: &Pod) -> Option<String> {
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
