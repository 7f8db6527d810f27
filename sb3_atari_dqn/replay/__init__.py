"""What is remembered, and how it is handed to the learner."""
