"""Parts of a run that the trainer puts together: where it starts, its batches, its steps, what stops it.

Each file is one idea of its own; `trainer.Trainer` holds the state and the order of events.
"""
