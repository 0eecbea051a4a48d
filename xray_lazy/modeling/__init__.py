"""What several models share: backbones, sampling of anchors and proposals, losses over all processes."""
