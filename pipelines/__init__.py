"""The application: one module per stage of the night, and what the stages share."""
