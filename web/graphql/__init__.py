"""GraphQL at ``/graphql``: the mutations of seed 000, and queries for orders, sagas, events and the catalogue."""
