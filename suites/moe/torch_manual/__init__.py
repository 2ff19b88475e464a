"""Expert parallelism in torch: every rank sends each token to the ranks of its experts, and no more than that."""
