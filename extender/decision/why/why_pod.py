"""The answer to `why`: one function for the command and the HTTP route."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import msgspec

from extender.decision.cycle.scheduling_cycle import Stall
from extender.decision.disruption.evictions import Evictee
from extender.decision.pace import Pace, unhurried
from extender.decision.request.inferred_workload import inferred
from extender.decision.request.pod_request import Demand
from extender.decision.state.pods import has_ended
from extender.decision.why.dominant_reason import dominant_reason
from extender.decision.why.helping.eviction_remedies import eviction_options, looked_up
from extender.decision.why.helping.node_remedies import ASSUMED
from extender.decision.why.helping.remedies import remedies_for
from extender.decision.why.helping.remedy_case import (
    CORRECT,
    LOOK,
    WAIT,
    Case,
    LookUp,
    few,
    gpus_text,
    nothing_looked_up,
    number,
)
from extender.decision.why.node_groups import node_groups
from extender.decision.why.pod_question import BY_REPORT, Evaluated, Question
from extender.decision.why.reported_reasons import general_remedy, unchecked
from extender.decision.why.running_pod import BETTER_SHARE, candidate_of, placement_of
from extender.decision.why.running_remedies import BETTER, FAULTY, SLOW, running_remedies, where_text
from extender.decision.why.scheduler_reports import unix_seconds
from extender.decision.why.why_types import WhyAnswer, WhyCandidate, WhyCause, WhyGroup, WhyPlacement, WhyRemedy, WhyReport

FITS_NOW, NOT_TRIED, GATED, FITS = "it fits now", "not tried yet", "the pod has scheduling gates", "it fits"
UNKNOWN_CLAIM = "a ResourceClaim of the pod is not known"
SCHEDULER_ERROR = "kube-scheduler reports an error"
WELL = "placed well"
SECONDS_TO_TRY = 30.0
"""After so long without a report, it is likely that no scheduler of the pod's schedulerName runs."""


def evictees(question: Question, pace: Pace = unhurried) -> tuple[Evictee, ...]:
    """Return the pods that remedies for a pending pod could evict: those that `why_answer` looks up."""
    if has_ended(question.pod) or question.pod.spec.node_name or question.pod.metadata.deletion_timestamp is not None:
        return ()
    evaluated = question.evaluated()
    if evaluated.best is not None or not evaluated.refusals:
        return ()
    return looked_up(eviction_options(Case(question, evaluated, pace)))


def why_answer(
    question: Question, pace: Pace = unhurried, predicted_gbps: float | None = None, look_up: LookUp = nothing_looked_up
) -> WhyAnswer:
    """Return why a pod is Pending, or where it is and how fast it is there, and what would help.

    `predicted_gbps`: the bandwidth that was predicted for a bound pod whose annotation does not state it. `look_up` is called at most once,
    with the pods that remedies could evict.
    """
    pod = question.pod
    if pod.metadata.deletion_timestamp is not None:
        return _terminating(question)
    if has_ended(pod):
        return _finished(question)
    if pod.spec.node_name:
        return _running(question, pod.spec.node_name, predicted_gbps)
    evaluated = question.evaluated()
    case = Case(question, evaluated, pace, look_up)
    base = WhyAnswer(
        pod=_name(question),
        uid=pod.metadata.uid or None,
        state="new" if question.is_new else "pending",
        reason="",
        sentence="",
        groups=node_groups(evaluated),
        fits=candidate_of(evaluated, evaluated.best) if evaluated.best is not None else None,
        reported=_report(question, evaluated),
        not_checked=_not_checked(question, evaluated),
    )
    gates = (question.kube_pod.spec.scheduling_gates if question.kube_pod is not None else None) or ()
    if gates:
        return _gated(base, [str(gate.get("name", "?")) for gate in gates])
    if evaluated.best is not None:
        return _fitting(base, question, evaluated)
    if not evaluated.refusals and question.reported.message.text:
        return _by_report_alone(base, question)
    helping = remedies_for(case)
    remedies = helping.remedies
    dominant = dominant_reason(case, remedies)
    if not any(remedy.fits or remedy.cause == dominant.reason for remedy in remedies):
        remedies = [*remedies, _general(dominant.reason)]
    base = msgspec.structs.replace(base, not_checked=[*base.not_checked, *helping.not_checked], unread=list(helping.unread))
    return _with(base, dominant.reason, dominant.sentence, remedies, complete=helping.is_complete)


def _with(base: WhyAnswer, reason: str, sentence: str, remedies: Sequence[WhyRemedy], *, complete: bool = True) -> WhyAnswer:
    return msgspec.structs.replace(base, reason=reason, sentence=sentence, remedies=list(remedies), complete=complete)


def _name(question: Question) -> str:
    meta = question.pod.metadata
    return f"{meta.namespace or 'default'}/{meta.name}"


def _general(reason: str) -> WhyRemedy:
    text = general_remedy(reason) or f"docs/reasons.md has the meaning of {reason!r}; fabricwise explain has every node with its numbers"
    return WhyRemedy(kind="look", text=text, cause=reason, fits=False, cost=LOOK)


def _not_checked(question: Question, evaluated: Evaluated) -> list[str]:
    demand = evaluated.demand
    warnings = inferred(question.pod, demand, question.resource).warnings if isinstance(demand, Demand) else ()
    return [*evaluated.kube.not_checked, *warnings]


def _report(question: Question, evaluated: Evaluated) -> WhyReport | None:
    reported = question.reported
    if not reported.message.text:
        return None
    age = None if reported.at_seconds is None or question.now_seconds is None else max(0.0, question.now_seconds - reported.at_seconds)
    return WhyReport(
        message=reported.message.text,
        age_seconds=None if age is None else round(age, 1),
        attempts=reported.attempts,
        scheduler=reported.scheduler,
        is_older=evaluated.best is not None and reported.message.nodes is not None and not _blocking(question, evaluated),
    )


def _blocking(question: Question, evaluated: Evaluated) -> bool:
    """Whether kube-scheduler's reasons that were not evaluated here can refuse all nodes on which the pod fits by what was evaluated."""
    return sum(each.nodes for each in unchecked(question)) >= len(evaluated.feasible)


def _gated(base: WhyAnswer, gates: Sequence[str]) -> WhyAnswer:
    text = f"wait for what set the gates {few(gates)} to remove them, or remove them from spec.schedulingGates"
    remedy = WhyRemedy(kind="look", text=text, cause=GATED, fits=base.fits is not None, cost=WAIT)
    fits = f" It would fit on {base.fits.node}." if base.fits is not None else ""
    sentence = f"The pod has the scheduling gates {few(gates)}: kube-scheduler does not try it before they are removed.{fits}"
    return _with(base, GATED, sentence, [remedy])


def _fitting(base: WhyAnswer, question: Question, evaluated: Evaluated) -> WhyAnswer:
    """Return the answer about a pod that fits by everything that was evaluated here."""
    fits, message = base.fits, question.reported.message
    assert fits is not None
    where = where_text(fits)
    if question.is_new:
        return _with(base, FITS, f"The pod fits on {_nodes(fits)}; {where} would be chosen.", [])
    if message.stall is not None:
        return _stalled(base, message.stall, where)
    claims = evaluated.demand.claims if isinstance(evaluated.demand, Demand) else None
    if claims is not None and claims.unknown is not None and message.nodes is None:
        remedy = WhyRemedy(
            kind="look", text="kubectl get resourceclaims: create or correct the claim", cause=UNKNOWN_CLAIM, fits=False, cost=LOOK
        )
        return _with(base, UNKNOWN_CLAIM, f"kube-scheduler waits for a ResourceClaim of the pod: {claims.unknown}.", [remedy])
    blocking = unchecked(question)
    if message.nodes is not None and blocking and _blocking(question, evaluated):
        first = max(blocking, key=lambda each: each.nodes)
        sentence = (
            f"kube-scheduler refuses {first.nodes} of {message.nodes} nodes: {first.reason}. "
            f"By everything that was evaluated here the pod fits on {_nodes(fits)}."
        )
        return _with(base, first.reason, sentence, [_general(first.reason)])
    if message.nodes is not None:
        return _older_report(base, where)
    if message.other:
        sentence = f"kube-scheduler could not finish: {message.other[:300]} The pod fits on {_nodes(fits)}."
        return _with(base, SCHEDULER_ERROR, sentence, [_general_error(message.other)])
    return _untried(base, question, where)


def _by_report_alone(base: WhyAnswer, question: Question) -> WhyAnswer:
    """Return the answer where no node is known here: what kube-scheduler has reported is all there is."""
    message = question.reported.message
    if not message.reasons:
        return _with(base, SCHEDULER_ERROR, f"kube-scheduler says: {message.text[:500]}", [_general_error(message.text)])
    first = max(message.reasons, key=lambda each: each.nodes)
    sentence = f"kube-scheduler refuses {first.nodes} of {message.nodes} nodes: {first.reason}. No node could be evaluated here."
    ordered = sorted(message.reasons, key=lambda each: -each.nodes)
    groups = [
        WhyGroup(nodes=each.nodes, names=[], causes=[WhyCause(by=BY_REPORT, reason=each.reason, details=[], resolvable=False)])
        for each in ordered
    ]
    return _with(msgspec.structs.replace(base, groups=groups), first.reason, sentence, [_general(first.reason)])


def _nodes(fits: WhyCandidate) -> str:
    return f"{fits.nodes} node{'' if fits.nodes == 1 else 's'}"


def _general_error(text: str) -> WhyRemedy:
    known = general_remedy(text) or "kubectl describe pod has the whole message; see docs/troubleshooting.md"
    return WhyRemedy(kind="look", text=known, cause=SCHEDULER_ERROR, fits=False, cost=LOOK)


def _stalled(base: WhyAnswer, stall: Stall, where: str) -> WhyAnswer:
    reason = ASSUMED if stall is Stall.HELD else stall.value
    text = f"wait some seconds: kube-scheduler tries the pod again by itself, and it fits on {where} once the other pods are seen or gone"
    sentence = f"The pod waits: {reason.removesuffix('; try again')}."
    return _with(base, reason, sentence, [WhyRemedy(kind="wait", text=text, cause=reason, fits=True, cost=WAIT)])


def _older_report(base: WhyAnswer, where: str) -> WhyAnswer:
    fits, report = base.fits, base.reported
    assert fits is not None
    age = report.age_seconds if report is not None else None
    ago = "before the state changed" if age is None else f"{_duration(age)} ago"
    sentence = f"Nothing is wrong any more: the pod fits on {_nodes(fits)} now, first {where}; kube-scheduler's last attempt was {ago}."
    text = "wait: kube-scheduler tries the pod again when a pod or node changes, and after five minutes at the latest"
    return _with(base, FITS_NOW, sentence, [WhyRemedy(kind="retry", text=text, cause=FITS_NOW, fits=True, cost=WAIT, node=fits.node)])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def _untried(base: WhyAnswer, question: Question, where: str) -> WhyAnswer:
    fits = base.fits
    assert fits is not None
    named = question.pod.spec.scheduler_name or "default-scheduler"
    created = unix_seconds(question.pod.metadata.creation_timestamp)
    age = None if created is None or question.now_seconds is None else max(0.0, question.now_seconds - created)
    since = f" in the {_duration(age)} since its creation" if age is not None else ""
    sentence = f"Nothing is wrong with the pod: it fits on {_nodes(fits)}, first {where}; {named} has not reported an attempt yet{since}."
    others = _schedulers(question, named)
    remedies = []
    if age is None or age < SECONDS_TO_TRY:
        remedies.append(WhyRemedy(kind="wait", text="wait some seconds for the first attempt", cause=NOT_TRIED, fits=True, cost=WAIT))
    near = difflib.get_close_matches(named, others, n=1)
    if near:
        text = f"is schedulerName {named} right? Other pods are scheduled by {near[0]}"
        remedies.append(WhyRemedy(kind="correct", text=text, cause=NOT_TRIED, fits=True, cost=CORRECT))
    known = f"; other pods are scheduled by {few(sorted(others))}" if others and not near else ""
    text = f"check that a scheduler of the name {named} runs (kubectl get pods -A | grep scheduler){known}"
    remedies.append(WhyRemedy(kind="look", text=text, cause=NOT_TRIED, fits=False, cost=LOOK))
    return _with(base, NOT_TRIED, sentence, remedies)


def _schedulers(question: Question, named: str) -> list[str]:
    snapshot = question.moment.snapshot
    names = {pod.scheduler for pod in snapshot.pods.values() if pod.scheduler}
    return sorted(names - {named})


def _terminating(question: Question) -> WhyAnswer:
    node = question.pod.spec.node_name
    where = f" on {node}; it holds its GPUs until its containers have ended" if node else ""
    return _short(question, "terminating", "terminating", f"The pod is being deleted{where}.")


def _finished(question: Question) -> WhyAnswer:
    phase = question.pod.status.phase if question.pod.status else "?"
    event = question.reported.newest("UnexpectedAdmissionError", "TopologyAffinityError", "Evicted", "Preempted", "OutOfcpu", "OutOfmemory")
    why = f" ({event.reason}: {(event.message or '')[:300]})" if event is not None and phase == "Failed" else ""
    return _short(question, "finished", "finished", f"The pod has ended: its phase is {phase}{why}. It holds no GPUs.")


def _short(question: Question, state: str, reason: str, sentence: str) -> WhyAnswer:
    return WhyAnswer(pod=_name(question), uid=question.pod.metadata.uid or None, state=state, reason=reason, sentence=sentence)


def _running(question: Question, node: str, predicted_gbps: float | None) -> WhyAnswer:
    placement = placement_of(question, node, predicted_gbps)
    reason, sentence = _running_reason(question, placement)
    not_checked = [] if question.kube_pod is not None else ["annotations, tolerations and affinities of a bound pod, which are not kept"]
    base = _short(question, "running", reason, sentence)
    return _with(
        msgspec.structs.replace(base, placement=placement, not_checked=not_checked),
        reason,
        sentence,
        running_remedies(question, placement),
    )


def _running_reason(question: Question, placement: WhyPlacement) -> tuple[str, str]:
    status = question.pod.status
    verb = "runs" if status is not None and status.phase == "Running" else "is bound"
    gpus = f"GPUs {gpus_text(placement.gpus)} of {placement.node}" if placement.gpus else f"{placement.node}, with GPUs that are not known"
    speed = f", which reach {number(placement.actual_gbps)} GB/s" if placement.actual_gbps is not None else ""
    predicted = f" ({number(placement.predicted_gbps)} predicted)" if placement.predicted_gbps is not None else ""
    head = f"The pod {verb} on {gpus}{speed}{predicted}"
    if placement.faults:
        return FAULTY, f"{head}; {placement.faults[0]}."
    best = placement.best_on_node_gbps
    if placement.actual_gbps is not None and best is not None and best >= BETTER_SHARE * placement.actual_gbps:
        limit = f": {placement.limits[0]}" if placement.limits else ""
        return SLOW, f"{head}{limit}; the best of that node, {gpus_text(placement.best_on_node_gpus or ())}, give {number(best)}."
    if placement.better is not None:
        return BETTER, f"{head}; {where_text(placement.better)} is free now."
    return WELL, f"{head}; no better place is free now."
