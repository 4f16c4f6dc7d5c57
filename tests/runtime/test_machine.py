from __future__ import annotations

from pathlib import Path

from edgecls_runtime.machine import cpu_flags, cpu_name, gpu_names

X86 = "processor : 0\nmodel name : Xeon X\nflags : fpu avx2 avx512f avx512_vnni\n\nprocessor : 1\nflags : fpu\n"
ARM = "processor : 0\nFeatures : fp asimd asimddp i8mm\nCPU part : 0xd0b\n"


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_machine_is_read_from_its_files(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", X86)
    assert (cpu_name(tmp_path), cpu_flags(tmp_path)) == ("Xeon X", ("avx2", "avx512f", "avx512_vnni"))
    assert gpu_names(tmp_path) == ()
    put(tmp_path, "proc/driver/nvidia/gpus/0000:01/information", "Model: \t\t NVIDIA L4\nIRQ: 3\n")
    assert gpu_names(tmp_path) == ("NVIDIA L4",)


def test_a_board(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", ARM)
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5\0")
    assert (cpu_name(tmp_path), cpu_flags(tmp_path)) == ("Raspberry Pi 5", ("asimd", "asimddp", "i8mm"))
