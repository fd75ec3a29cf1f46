"""What all schedules share: the operator that runs a command, policy, approval, notifier. No DAG is defined here.

Airflow puts `dags/` itself on the path, so this package is imported as `house`; the name must stay free of others.
"""
