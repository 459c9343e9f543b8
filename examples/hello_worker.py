"""A worker, a workflow of one task, and one run of it.

podium server                      # in another terminal, or set CONDUCTOR_SERVER_URL to a real server
python examples/hello_worker.py
"""

from podium import Client, TaskHandler, WorkflowDef, worker_task


@worker_task("hello_greet", register_task_def=True)
def greet(name: str) -> dict[str, str]:
    return {"greeting": f"Hello, {name}!"}


def main() -> None:
    step = greet(task_ref_name="greet", name="${workflow.input.name}")
    with TaskHandler() as handler, Client() as client:
        handler.start_processes()
        client.update_workflow_defs([WorkflowDef(name="hello", tasks=[step.to_workflow_task()])])
        run = client.execute_workflow("hello", {"name": "podium"})
        print(run.status, run.output)


if __name__ == "__main__":
    main()
