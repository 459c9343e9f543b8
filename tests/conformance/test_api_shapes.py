"""The fields of each kind of answer, no more and no less: clients are written against them."""

from typing import Any

import pytest

from conformance.stage import Server, Stage, expect, simple

FIELDS = {
    "task definition": """
        backoffJitterMs backoffScaleFactor createTime createdBy description enforceSchema inputKeys inputTemplate
        maxRetryDelaySeconds name outputKeys rateLimitFrequencyInSeconds rateLimitPerFrequency responseTimeoutSeconds
        retryCount retryDelaySeconds retryLogic runtimeMetadata taskStatusListenerEnabled timeoutPolicy timeoutSeconds
        totalTimeoutSeconds updateTime
    """,
    "workflow definition": """
        createTime enforceSchema inputParameters inputTemplate maskedFields metadata name outputParameters restartable
        schemaVersion tasks timeoutPolicy timeoutSeconds updateTime variables version workflowStatusListenerEnabled
    """,
    "workflow": """
        correlationId createTime endTime failedReferenceTaskNames failedTaskNames history input lastRetriedTime output
        ownerApp priority rateLimited startTime status taskToDomain tasks updateTime variables workflowDefinition
        workflowId workflowName workflowVersion
    """,
    "task": """
        callbackAfterSeconds callbackFromWorker correlationId domain endTime executed executionMetadata firstStartTime
        inputData iteration loopOverTask outputData pollCount queueWaitTime rateLimitFrequencyInSeconds
        rateLimitPerFrequency referenceTaskName responseTimeoutSeconds retried retryCount scheduledTime seq
        startDelayInSeconds startTime status subworkflowChanged taskDefName taskDefinition taskId taskType updateTime
        workerId workflowInstanceId workflowPriority workflowTask workflowType
    """,
    "workflow summary": """
        classifier correlationId endTime executionTime failedReferenceTaskNames failedTaskNames input inputSize output
        outputSize parentWorkflowId priority reasonForIncompletion startTime status taskToDomain updateTime version
        workflowId workflowType
    """,
    "task summary": """
        correlationId domain endTime executionTime input output queueWaitTime scheduledTime startTime status
        taskDefName taskId taskType updateTime workflowId workflowPriority workflowType
    """,
    "status": "correlationId output status variables workflowId",
    "poll data": "domain lastPollTime queueName workerId",
    "execution": """
        createTime input output priority requestId responseType signalTimeout status targetWorkflowId
        targetWorkflowStatus tasks updateTime variables workflowId
    """,
    "log line": "createdTime log taskId",
    "error": "instance message retryable status",
}


def answers(stage: Stage) -> dict[str, dict[str, Any]]:
    """One answer of each kind, of a workflow whose first task was completed and whose second failed."""
    name = stage.define_task(description="what it does")
    workflow = stage.define_workflow(simple(name, "a"), simple(name, "b"))
    workflow_id = stage.start(workflow, {"n": 1}, correlationId="c", priority=3, taskToDomain={name: "d"})
    started = stage.workflow(workflow_id)
    task = stage.take(name, workerid="w", domain="d")
    stage.complete(task)
    stage.fail(stage.take(name, workerid="w", domain="d"))
    expect(stage.post(f"/tasks/{task['taskId']}/log", b"line"))
    summaries = stage.get("/tasks/search", query=f"taskType={name}").json["results"]
    return {
        "task definition": stage.get(f"/metadata/taskdefs/{name}").json,
        "workflow definition": stage.get(f"/metadata/workflow/{workflow}").json,
        "workflow": started,
        "task": task,
        "workflow summary": stage.get("/workflow/search", query=f"workflowType={workflow}").json["results"][0],
        "task summary": next(row for row in summaries if row["taskId"] == task["taskId"]),
        "status": stage.get(f"/workflow/{workflow_id}/status", includeOutput="true", includeVariables="true").json,
        "poll data": stage.get("/tasks/queue/polldata", taskType=name).json[0],
        "execution": stage.post(f"/workflow/execute/{workflow}/1", {"input": {}}, waitForSeconds=1).json,
        "log line": stage.get(f"/tasks/{task['taskId']}/log").json[0],
        "error": stage.get("/workflow/none").json,
    }


@pytest.fixture(scope="module")
def found(server: Server) -> dict[str, dict[str, Any]]:
    return answers(Stage(server))


@pytest.mark.parametrize("kind", FIELDS)
def test_fields(found: dict[str, dict[str, Any]], kind: str) -> None:
    assert sorted(found[kind]) == sorted(FIELDS[kind].split())
