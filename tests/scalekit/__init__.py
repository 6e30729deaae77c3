"""A model of the service at sizes that no machine at hand has, made of costs that were measured."""
