"""Networks by name: what the trainer, the predictor, the exporter and the command line ask for one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from asmnet._options import check_options
from shape_models._options import check_choice


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """A registered network.

    Attributes
    ----------
    name : str
        As in `build_network` and in checkpoints.
    factory : callable
        ``factory(n_landmarks, **options) -> Module`` whose forward returns a `Prediction`.
    title : str
        One line for people.
    input_size : int
        The side of the square input it was designed for.
    stride : int
        Sides of the input must be multiples of this.
    criterion : str
        The criterion it is trained with unless the configuration names another.
    defaults : dict
        Options given to the factory unless overridden.

    Examples
    --------
    >>> from asmnet.networks import network_spec
    >>> network_spec("asmnet").input_size
    224
    """

    name: str
    factory: Callable[..., nn.Module]
    title: str
    input_size: int
    stride: int
    criterion: str = "asm_assisted"
    defaults: dict[str, Any] = field(default_factory=dict)


_NETWORKS: dict[str, NetworkSpec] = {}
_Factory = TypeVar("_Factory", bound=Callable[..., nn.Module])


def register_network(
    name: str,
    *,
    title: str,
    input_size: int,
    stride: int,
    criterion: str = "asm_assisted",
    **defaults: Any,
) -> Callable[[_Factory], _Factory]:
    """Enter a network under `name`; used as a decorator of a class or a function.

    Parameters
    ----------
    name : str
        Unique.
    title, input_size, stride, criterion : str, int, int and str
        See `NetworkSpec`.
    **defaults
        Options for the factory.

    Returns
    -------
    callable
        Returns what it is given.

    Raises
    ------
    ValueError
        When the name is taken.

    Examples
    --------
    >>> from asmnet.networks import ASMNet, build_network, register_network
    >>> _ = register_network("asmnet-half", title="half as wide", input_size=112, stride=32, width=0.5)(ASMNet)
    >>> sum(p.numel() for p in build_network("asmnet-half", 68).parameters()) < 700_000
    True
    """

    def enter(factory: _Factory) -> _Factory:
        if name in _NETWORKS and _NETWORKS[name].factory is not factory:
            raise ValueError(f"a network called {name!r} is registered already; choose another name.")
        _NETWORKS[name] = NetworkSpec(name, factory, title, input_size, stride, criterion, dict(defaults))
        return factory

    return enter


def network_names() -> list[str]:
    """Return the registered names, sorted.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> from asmnet.networks import network_names
    >>> {"asmnet", "mobilenetv2"} <= set(network_names())
    True
    """
    return sorted(_NETWORKS)


def network_spec(name: str) -> NetworkSpec:
    """Return what is registered under `name`.

    Parameters
    ----------
    name : str
        One of `network_names`.

    Returns
    -------
    NetworkSpec
        How to build it, and what it expects.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> from asmnet.networks import network_spec
    >>> network_spec("mobilenetv2").stride
    16
    """
    check_choice(network_names(), network=name)
    return _NETWORKS[name]


def build_network(name: str, n_landmarks: int, **options: Any) -> nn.Module:
    """Build a registered network with fresh weights.

    Parameters
    ----------
    name : str
        See `network_names`.
    n_landmarks : int
        Number of points.
    **options
        For the network's constructor: `width`, `pose`, ...

    Returns
    -------
    torch.nn.Module
        In training mode.

    Raises
    ------
    ValueError
        For an unknown name, and for options that the network does not have; the message lists those it has.

    Examples
    --------
    >>> from asmnet.networks import build_network
    >>> type(build_network("asmnet", 29, pose=False)).__name__
    'ASMNet'
    """
    spec = network_spec(name)
    check_options(f"network_options of {name}", spec.factory, options, ("n_landmarks",))
    return spec.factory(n_landmarks, **{**spec.defaults, **options})
