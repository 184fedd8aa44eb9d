"""The pages' forms: raw field values, their conversion to request models, and errors by field."""
