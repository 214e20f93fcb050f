"""Prediction over more JPEGs than one run of one machine gets through: by shards, or on the engines people have."""
