"""Apache Beam: the streaming job that carries intraday changes; the only folder that imports apache_beam."""
