"""What every mixture of experts in JAX computes, whoever divides its tokens and experts."""
