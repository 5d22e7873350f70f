"""Writes a task of lm-evaluation-harness for `eval --tasks`: `pip install lm-eval; python export-task.py piqa`."""
import json
import sys

from lm_eval.tasks import TaskManager, get_task_dict

name = sys.argv[1]  # piqa, arc_easy, hellaswag, winogrande, lambada_openai, ...
task = get_task_dict([name], TaskManager())[name]
docs = task.validation_docs() if task.has_validation_docs() else task.test_docs()
with open(f"{name}.jsonl", "w") as file:
    for doc in docs:
        doc = task._process_doc(doc)
        text, target = task.doc_to_text(doc), task.doc_to_target(doc)
        if task.OUTPUT_TYPE == "loglikelihood":
            item = {"context": text, "target": target}
        elif task.multiple_input:
            item = {"contexts": task.doc_to_choice(doc), "continuation": target, "gold": text}
        else:
            item = {"query": text, "choices": task.doc_to_choice(doc), "gold": target}
        file.write(json.dumps(item) + "\n")
