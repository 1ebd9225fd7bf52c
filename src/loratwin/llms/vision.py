"""Parameters of the encoders of images, from `vision_config`; vLLM keeps them in 16 bits beside the LLM."""

from __future__ import annotations

from loratwin.llms.fields import Fields

_GATED = ("qwen2_5_vl", "pixtral", "kimi_k3_vision")


def vision_parameters(fields: Fields, text_hidden: int) -> int:
    """Weights of the encoder and of what joins it to the LLM; 0 without one.

    Raises
    ------
    InputError
        Its sizes are not there.
    """
    said = fields.part("vision_config")
    if not said.data:
        return 0
    hidden = said.size("embed_dim", "hidden_size", "vt_hidden_size", "width")
    kind, inner = said.model_type, _inner(said, hidden)
    depth = said.size("num_hidden_layers", "depth", "vt_num_hidden_layers", "layers", most=1000)
    width = said.optional("qkv_hidden_size") or hidden
    matrices = 3 if kind in _GATED else 2
    layer = 4 * hidden * width + 4 * hidden + matrices * hidden * inner + hidden + inner + 4 * hidden
    patch = (said.optional("patch_size", "spatial_patch_size") or 14) ** 2 * (
        said.optional("in_channels", "in_chans", "num_channels") or 3
    )
    patch *= said.optional("temporal_patch_size") or 1
    places = said.optional("num_position_embeddings", "position_embedding_size") or 0
    if places == 0 and (side := said.optional("init_pos_emb_height")):
        places = side * (said.optional("init_pos_emb_width") or side)
    if places == 0 and (image := said.optional("image_size")):
        places = (image // (said.optional("patch_size") or 14)) ** 2
    twice = 2 if kind == "gemma4_vision" else 1
    return (
        depth * layer
        + patch * hidden
        + hidden
        + twice * places * hidden
        + 2 * hidden
        + _joint(fields, said, hidden, text_hidden)
    )


def _inner(said: Fields, hidden: int) -> int:
    if found := said.optional("intermediate_size", "vt_intermediate_size"):
        return found
    ratio = said.data.get("mlp_ratio")
    return int(hidden * (ratio if isinstance(ratio, (int, float)) else 4))


def _joint(fields: Fields, said: Fields, hidden: int, text: int) -> int:
    """What maps an image's features to the LLM's size."""
    kernel = said.data.get("merge_kernel_size")
    merge = said.optional("spatial_merge_size") or (
        kernel[0] if isinstance(kernel, list) and kernel and type(kernel[0]) is int else 1
    )
    merged = hidden * merge * merge
    if merge > 1:
        mergers = 1 + len(said.listed("deepstack_visual_indexes") or ())
        return mergers * (merged * merged + merged + merged * text + text + 2 * hidden)
    if fields.model_type in ("gemma3", "gemma4"):
        return hidden * text + hidden
    return merged * text + text * text + 2 * text  # two layers, as LLaVA has them
