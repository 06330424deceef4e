"""What other formats make of a picture in so many bytes: files (WebP, AVIF, JPEG) and placeholders (BlurHash,
ThumbHash), each at its best."""
