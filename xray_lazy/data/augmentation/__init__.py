"""Augmentation that knows X-rays: items are transparent, so that images are put together by multiplication."""
