"""What a fitted latent-variable model is for. Every function is written for one example or one pair of them."""
