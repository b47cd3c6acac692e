"""Of tests with many cases of one kind, how many the quick suite takes; the rest is marked `every`.

A case takes seconds of compilation. The first ones of each kind stand for it; 0 leaves the test to `-m every`.
"""

FIRST = {
    "experiments/test_configs.py": {
        "test_contract": 8,
        "test_a_training_step_is_lowered_for_every_platform": 8,
        "test_parameters_may_be_numpy_arrays": 12,
        "test_every_config_comes_to_its_results_and_all_its_figures": 1,
        "test_bfloat16_trains_to_the_bound_of_float32": 0,
    },
    "models/test_composition.py": {
        "test_it_trains_or_says_why_not": 24,
        "test_a_hierarchy_trains_or_says_why_not": 1,
        "test_a_step_is_finite_and_reaches_every_parameter": 2,
    },
    "models/test_model_contexts.py": {
        "test_the_loss_is_finite_and_every_weight_of_the_context_learns": 6,
    },
    "objectives/test_estimators.py": {
        "test_an_estimator_is_unbiased": 5,
        "test_rloo_is_unbiased_for_every_kind_of_discrete_latent": 1,
        "test_a_baseline_is_learned_beside_the_model_and_pays": 0,
    },
    "objectives/test_disentangling.py": {
        "test_a_trained_discriminator_finds_it": 0,
        "test_eight_devices_see_one_batch": 0,
    },
    "distributions/test_observed.py": {
        "test_the_density_of_the_observed_entries_is_the_marginal": 8,
    },
    "conditionals/test_heads.py": {
        "test_every_density_of_shares_is_finite": 1,
        "test_every_density_of_a_vector_is_finite": 3,
        "test_every_density_is_finite": 4,
    },
    "conditionals/test_chains.py": {
        "test_every_parameter_learns": 1,
    },
    "models/test_hierarchical_vae.py": {
        "test_an_estimator_is_unbiased_through_a_chain": 2,
        "test_the_evidence_is_that_of_the_joint_gaussian": 1,
    },
    "models/test_vae.py": {
        "test_every_objective_trains": 10,
        "test_jit_is_eager": 1,
    },
    "models/test_text_vae.py": {
        "test_the_encoder_may_go_first": 0,
        "test_bounds_rise_with_the_number_of_samples_to_the_exact_evidence": 0,
        "test_free_bits_by_a_schedule": 0,
    },
    "models/test_language_model.py": {
        "test_padding_changes_no_likelihood": 1,
        "test_the_cached_sampler_is_the_naive_one": 1,
        "test_an_lstm_comes_near_the_grammar_and_not_past_it": 0,
    },
    "models/test_pixel_cnn.py": {
        "test_cached_draws_are_those_of_the_whole_network": 2,
        "test_cached_conditionals_are_those_of_one_pass": 1,
    },
    "models/test_mixtures.py": {
        "test_gaussians_are_those_of_scikit_learn_step_by_step": 2,
        "test_eight_devices_are_one": 1,
    },
    "models/test_dropout.py": {
        "test_the_same_example_has_another_mask_in_every_place_of_a_batch_and_in_every_step": 1,
    },
    "models/test_diffusion.py": {
        "test_the_masses_of_an_enumerable_world_sum_to_at_most_one": 1,
        "test_the_last_step_is_normalised": 2,
    },
    "objectives/test_diffusion_bounds.py": {
        "test_draws_by_the_exact_denoiser_of_a_normal_have_its_moments": 1,
    },
    "models/test_ngram.py": {
        "test_a_five_gram_comes_near_the_grammar_and_a_trigram_cannot": 0,
    },
    "runs/test_launching.py": {
        "test_a_signal_outside_the_loop_ends_in_one_line": 1,
        "test_a_signal_is_heard_from_the_first_import_on": 1,
        "test_a_failure_is_one_line_and_leaves_within_seconds": 1,
    },
    "runs/test_runs_outliers.py": {
        "test_what_independent_pixels_find_of_a_class_left_out": 0,
    },
    "runs/test_pictures.py": {
        "test_only_a_standard_normal_prior_is_drawn": 1,
    },
    "bijectors/test_image_bijectors.py": {
        "test_extreme_inputs_are_inverted_with_finite_gradients": 3,
    },
    "bijectors/test_bijectors.py": {
        "test_the_inverse_undoes_it": 6,
        "test_the_inverse_follows_the_parameters": 2,
    },
    "distributions/test_transformed.py": {
        "test_the_density_integrates_to_one": 2,
    },
    "data/test_contexts.py": {
        "test_streamed_batches_are_the_resident_ones": 3,
        "test_the_batch_is_what_event_and_context_say": 3,
    },
    "data/test_fuzz.py": {
        "test_a_damaged_folder_of_tfds": 3,
        "test_damaged_files_are_data_or_one_line": 6,
    },
    "data/test_pipeline.py": {
        "test_data_read_from_disk_are_the_resident_ones_bit_for_bit": 1,
        "test_shuffled_is_a_permutation": 3,
    },
    "networks/test_networks.py": {
        "test_bfloat16_stays_inside_a_network": 2,
        "test_every_input_and_the_context_reach_every_output": 4,
    },
    "networks/test_gated_pixel_cnn.py": {
        "test_a_pixel_sees_all_pixels_before_it_and_no_other": 1,
    },
    "training/test_sweep.py": {
        "test_a_member_is_the_run_it_would_be_alone": 2,
    },
    "training/test_sharding.py": {
        "test_the_numbers_do_not_depend_on_the_mesh": 1,
    },
    "training/test_em_precision.py": {
        "test_em_never_lowers_the_bound_by_more_than_rounding": 12,
    },
    "test_bad_input.py": {
        "test_every_optimiser_of_optax_makes_a_step_or_is_refused": 12,
    },
}
