"""The cluster that `make slurm-up` starts, as far as it needs no SLURM."""

import runpy
import sys

from tests.conftest import ROOT


def test_ctrl_c_while_it_starts_tells_what_ends_the_daemons_that_run(monkeypatch, tmp_path, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setenv("XRAY_SLURM_FOLDER", str(tmp_path))
    for name in ("PATH", "SLURM_CONF"):  # which it sets
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "argv", ["cluster.py", "up"])
    cluster = runpy.run_path(str(ROOT / "slurm/test_cluster/cluster.py"))
    monkeypatch.setitem(cluster["main"].__globals__, "check_machine", interrupted)
    assert cluster["main"]() == 130
    assert "`make slurm-down` ends what runs already" in capsys.readouterr().err
