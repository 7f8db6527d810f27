"""What is learnt from a batch: targets and objectives, as pure functions of tensors."""
