"""GraphQL at ``/graphql``: the mutations of seed 000, and what they lead to, to be asked for."""
