"""The few calls of Airflow's REST API that a home needs: log in, pools, connections, pauses, import errors."""

from typing import Any

from lookalike.contracts.errors import LookalikeError
from lookalike.line.airflow_home import AirflowHome

SECONDS = 60.0


class AirflowApi:
    """A logged-in client. Every call raises LookalikeError that names the request and Airflow's answer."""

    def __init__(self, home: AirflowHome, user: str | None = None) -> None:
        import httpx

        user = user or next(iter(home.passwords))
        self._http = httpx.Client(base_url=home.url, timeout=SECONDS)
        login = {"username": user, "password": home.passwords[user]}
        token = self._checked(self._http.post("/auth/token", json=login))["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One request below /api/v2; the answer's JSON."""
        return self._checked(self._http.request(method, f"/api/v2{path}", json=body, params=query))

    def put_pool(self, name: str, slots: int, description: str) -> None:
        """Make the pool, or set its slots."""
        body = {"slots": slots, "description": description, "include_deferred": False}
        if name in {pool["name"] for pool in self.call("GET", "/pools")["pools"]}:
            self.call("PATCH", f"/pools/{name}", {"pool": name} | body)
        else:
            self.call("POST", "/pools", {"name": name} | body)

    def put_connection(self, name: str, kind: str, host: str, description: str) -> None:
        """Make the connection, or point it at this host."""
        body = {"connection_id": name, "conn_type": kind, "host": host, "description": description}
        known = {each["connection_id"] for each in self.call("GET", "/connections")["connections"]}
        if name in known:
            self.call("PATCH", f"/connections/{name}", body)
        else:
            self.call("POST", "/connections", body)

    def dags(self) -> dict[str, bool]:
        """Whether each known DAG is paused, by its id."""
        return {dag["dag_id"]: dag["is_paused"] for dag in self.call("GET", "/dags", limit=100)["dags"]}

    def set_paused(self, dag: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/dags/{dag}", {"is_paused": paused})

    def import_errors(self) -> dict[str, str]:
        """What is wrong with files of DAGs that could not be read, by file."""
        found = self.call("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _checked(self, answer: Any) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        request = answer.request
        raise LookalikeError(
            f"Airflow answered {answer.status_code} to {request.method} {request.url}: {answer.text[:500]}"
        )
