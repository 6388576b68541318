"""How the server's key is told: by an environment variable, since everybody on a machine sees a process's flags."""

API_KEY = "POLICY_API_KEY"
